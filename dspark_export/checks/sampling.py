"""Are tokens that the real pair samples with speculation distributed as those sampled without it?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from dspark_engines import Bundle, GenerationRequest, Runtime, RuntimeOptions, SamplingParams

SIGNIFICANCE = 0.01
TOKENS = 3  # the third gives the second a block to be drafted in
EXPECTED = 5.0  # counts that are pooled below this, as chi-square asks


class Homogeneity(NamedTuple):
    """Chi-square test that two samples of tokens come from one distribution, at one position of the output."""

    position: int
    samples: int
    chi_square: float
    degrees: int
    p_value: float

    @property
    def passed(self) -> bool:
        """No evidence against one distribution; NaN does not pass."""
        return self.p_value > SIGNIFICANCE


def compare_sampling(
    bundle: Bundle,
    options: RuntimeOptions,
    prompt_ids: Sequence[int],
    seeds: int,
    progress: Callable[[int, int], None],
    temperature: float = 1.0,
) -> list[Homogeneity]:
    """Sample the first two tokens behind a prompt `seeds` times with and `seeds` times without speculation.

    The two samples use seeds of their own: with equal seeds they would share draws.
    """
    tokens: dict[bool, list[list[int]]] = {True: [], False: []}
    with Runtime(bundle, replace(options, max_queue=seeds)) as runtime:
        for speculate in (True, False):
            streams = [
                runtime.submit(GenerationRequest(prompt_ids, TOKENS, speculate, SamplingParams(temperature, seed=seed)))
                for seed in range(seeds * (not speculate), seeds * (2 - speculate))
            ]
            for stream in streams:
                tokens[speculate].append(stream.result().token_ids)
                progress(len(tokens[True]) + len(tokens[False]), 2 * seeds)
    return [_test(position, tokens[True], tokens[False]) for position in (0, 1)]


def _test(position: int, a: Sequence[Sequence[int]], b: Sequence[Sequence[int]]) -> Homogeneity:
    counts = [Counter(t[position] for t in sample if len(t) > position) for sample in (a, b)]
    statistic, degrees = chi_square(*counts)
    samples = min(sum(count.values()) for count in counts)
    return Homogeneity(position, samples, statistic, degrees, chi_square_tail(statistic, degrees))


def chi_square(a: Counter[int], b: Counter[int]) -> tuple[float, int]:
    """(statistic, degrees of freedom) of two counts; rare tokens are pooled until each cell expects enough."""
    total_a, total_b = sum(a.values()), sum(b.values())
    share = min(total_a, total_b) / (total_a + total_b)
    cells: list[tuple[int, int]] = []
    rest = [0, 0]
    for token in sorted(a.keys() | b.keys(), key=lambda token: (-(a[token] + b[token]), token)):
        if (a[token] + b[token]) * share >= EXPECTED:
            cells.append((a[token], b[token]))
        else:
            rest = [rest[0] + a[token], rest[1] + b[token]]
    if sum(rest):
        cells.append((rest[0], rest[1]))
    statistic = 0.0
    for cell in cells:
        for count, total in zip(cell, (total_a, total_b), strict=True):
            expected = sum(cell) * total / (total_a + total_b)
            statistic += (count - expected) ** 2 / expected
    return statistic, len(cells) - 1


def chi_square_tail(statistic: float, degrees: int) -> float:
    """P(X > statistic), X chi-square distributed, by Wilson and Hilferty's cube-root approximation."""
    if degrees < 1:
        return 1.0
    spread = 2.0 / (9.0 * degrees)
    z = ((statistic / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(z / math.sqrt(2))
