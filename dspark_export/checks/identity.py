"""Is the greedy output with speculation the output without it?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dspark_engines import GenerationRequest, GenerationResult, Generator
from dspark_engines.backends import Engines
from dspark_engines.bundle import Manifest
from dspark_engines.errors import GenerationError
from dspark_export.checks.tolerances import TIE_GAP


class Difference(NamedTuple):
    """Where one prompt's two outputs part, and how far the target's two best logits are from each other there."""

    prompt: int
    position: int
    plain: int
    speculative: int
    gap: float

    @property
    def tie(self) -> bool:
        """In floating point either choice is right: the stated tolerance explains the difference."""
        return self.gap <= TIE_GAP


class IdentityReport(NamedTuple):
    """Outcome over all prompts; `results` are the speculative generations.

    `drafter_failure` says what went wrong with the drafter, if something did, and `failure` why a generation ended
    with an error, which ends the comparison.
    """

    tokens: int
    differences: list[Difference]
    results: list[GenerationResult]
    drafter_failure: str = ""
    failure: str = ""

    @property
    def ties(self) -> list[Difference]:
        """Differences that a near-tie explains."""
        return [difference for difference in self.differences if difference.tie]

    @property
    def passed(self) -> bool:
        """No difference but ties, and every generation came to an end."""
        return not self.failure and len(self.ties) == len(self.differences)


def check_identity(
    engines: Engines,
    manifest: Manifest,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    progress: Callable[[int, int], None],
) -> IdentityReport:
    """Generate every prompt twice on the same engines and compare token for token."""
    generator, differences, results, tokens, failure = Generator(engines, manifest), [], [], 0, ""
    for index, prompt in enumerate(prompts):
        try:
            plain = generator.run(GenerationRequest(prompt, max_new_tokens, speculate=False)).token_ids
            result = generator.run(GenerationRequest(prompt, max_new_tokens))
        except GenerationError as error:
            failure = f"prompt {index}: {error}"
            break
        results.append(result)
        tokens += len(plain)
        position = first_difference(plain, result.token_ids)
        if position is not None:
            gap = top_gap(engines, manifest, [*prompt, *plain[:position]])
            pair = (plain[position : position + 1] or [-1])[0], (result.token_ids[position : position + 1] or [-1])[0]
            differences.append(Difference(index, position, *pair, gap))
        progress(index + 1, len(prompts))
    return IdentityReport(tokens, differences, results, generator.speculation_failed, failure)


def first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    """Index of the first token in which a and b differ (the shorter one's end included), or None."""
    for position, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return position
    return None if len(a) == len(b) else min(len(a), len(b))


def top_gap(engines: Engines, manifest: Manifest, token_ids: Sequence[int]) -> float:
    """Distance of the two best logits behind `token_ids`, computed afresh from an empty cache."""
    slot, used = engines.verify.new_slot(), 0
    ids, chunk = np.asarray(token_ids, np.int64), manifest.limits.prefill_chunk
    for part in np.split(ids, range(chunk, len(ids), chunk)):
        last = np.array([len(part) - 1])
        output = engines.verify.step([slot], part, np.array([len(part)]), np.array([used]), last)
        used += len(part)
    second, best = np.sort(output.logits[0])[-2:]
    return float(best - second)
