"""What another precision changes in what comes out: next-token distributions, and how much of a draft is accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_calibration import Round, accepted_length
from dspark_engines import GenerationRequest, Generator
from dspark_engines.arrays import Floats
from dspark_engines.backends import Engines, VerifyEngine
from dspark_engines.bundle import Manifest
from dspark_engines.errors import BackendError

CHUNK = 64
"""Tokens a step; their logits in float64, twice, are what this needs memory for."""

Progress = Callable[[int, int], None]
Log = npt.NDArray[np.float64]


class Divergence(NamedTuple):
    """Over all positions of some texts, the tokens before each being given (teacher forcing).

    `kl`, `kl_99` and `kl_max`: mean, 99% point and largest KL(reference ‖ other) of the next-token distributions, in
    nats. `top1`: share of positions where both have the same most likely token. The perplexities are of the texts
    themselves, from their second token on; 1 where there is none.
    """

    tokens: int
    kl: float
    kl_99: float
    kl_max: float
    top1: float
    perplexity_reference: float
    perplexity: float


def measure_divergence(
    reference: VerifyEngine, other: VerifyEngine, texts: Sequence[Sequence[int]], chunk: int, progress: Progress
) -> Divergence:
    """Run both engines over the same texts, in steps of up to `chunk` tokens.

    Raises `BackendError` when either returns logits that are not finite.
    """
    kl, same, surprise, surprise_other = [], [], [], []
    for index, text in enumerate(texts):
        ids = np.asarray(text, np.int64)
        pairs = zip(_log_probabilities(reference, ids, chunk), _log_probabilities(other, ids, chunk), strict=True)
        start = 0
        for p, q in pairs:
            kl.append((np.exp(p) * (p - q)).sum(axis=1))
            same.append(p.argmax(axis=1) == q.argmax(axis=1))
            following = ids[start + 1 : start + 1 + len(p)]
            rows = np.arange(len(following))
            surprise.append(-p[rows, following])
            surprise_other.append(-q[rows, following])
            start += len(p)
        progress(index + 1, len(texts))
    divergences = np.concatenate(kl)
    return Divergence(
        tokens=len(divergences),
        kl=float(divergences.mean()),
        kl_99=float(np.percentile(divergences, 99)),
        kl_max=float(divergences.max()),
        top1=float(np.concatenate(same).mean()),
        perplexity_reference=_perplexity(surprise),
        perplexity=_perplexity(surprise_other),
    )


def measure_acceptance(
    engines: Engines, manifest: Manifest, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> float:
    """Accepted length over greedy generations that always verify the whole block."""
    generator, rounds = Generator(engines, manifest), list[Round]()
    for prompt in prompts:
        rounds += generator.run(GenerationRequest(prompt, max_new_tokens)).rounds
    return accepted_length(rounds)


def _log_probabilities(engine: VerifyEngine, ids: npt.NDArray[np.int64], chunk: int) -> Iterator[Log]:
    """Of every token's follower, [n, V] a step."""
    slot = engine.new_slot()
    for start in range(0, len(ids), chunk):
        part = ids[start : start + chunk]
        count = len(part)
        output = engine.step([slot], part, np.array([count]), np.array([start]), np.arange(count))
        yield _log_softmax(output.logits)


def _log_softmax(logits: Floats) -> Log:
    if not np.isfinite(logits).all():
        raise BackendError("the engine's logits are not finite", hint="check the bundle: dspark-export check")
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _perplexity(surprise: Sequence[Log]) -> float:
    values = np.concatenate(surprise)
    return float(np.exp(values.mean())) if values.size else 1.0
