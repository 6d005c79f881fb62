"""Is what comes out of speculative rounds distributed as the target says? Counted on a model small enough to know.

Many tiny servers run side by side, each with a few rows of its own: requests join as others leave.
A round drafts a block from a Markov drafter, takes confidences that depend on the drafted tokens (and mislead),
lets the scheduler decide the lengths of all rows at once, and accepts, resamples or draws the bonus token. The
first tokens of every request are tallied against the product of the target's conditionals.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_engines.arrays import Doubles, Ints
from dspark_engines.measured import StepCost
from dspark_engines.scheduler import Scheduler, get_scheduler

VOCABULARY, BLOCK, TOKENS = 3, 3, 5
SERVERS, ROWS = 1000, 4
FEWEST_ROUNDS = -(-TOKENS // (BLOCK + 1))
"""No request is through in fewer."""

TARGET: Doubles = np.array([[0.7, 0.2, 0.1], [0.6, 0.1, 0.3], [0.5, 0.3, 0.2]])
"""p of the next token, by the token before; a request starts behind token 0."""
DRAFT: Doubles = np.array(
    [
        [[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]],
        [[0.4, 0.3, 0.3], [0.3, 0.3, 0.4], [0.3, 0.5, 0.2]],
        [[0.4, 0.4, 0.2], [0.3, 0.3, 0.4], [0.3, 0.4, 0.3]],
    ]
)
"""q of the next token, by position and the token before."""
CONFIDENCE: Doubles = np.array([[0.8, 0.75, 0.7], [0.98, 0.05, 0.2], [0.98, 0.2, 0.05]])
"""Of the token at each position, by the token before."""
COSTS = (
    StepCost([(4, 1.0), (8, 1.5), (9, 2.3), (12, 2.4), (13, 3.2), (16, 3.3)]),
    StepCost([(4, 1.0), (5, 1.8), (8, 1.85), (16, 2.0)]),
)
"""Half of the servers take one, half the other. The first makes Algorithm 1 choose and then stop at a cliff, the
second has the cliff at once; with these confidences a search on live ones fails by a wide margin."""


class AuditResult(NamedTuple):
    """Total variation between produced and true distribution, over the first tokens of `requests` requests."""

    scheduler: str
    rounds: int
    requests: int
    total_variation: float
    bound: float
    """99.9% of samples of this size drawn from the true distribution itself stay below."""

    @property
    def passed(self) -> bool:
        """Within the sampling bound; NaN is not."""
        return self.total_variation <= self.bound


def run_audit(
    scheduler_name: str, rounds: int, seed: int, progress: Callable[[float], None] | None = None
) -> AuditResult:
    """Audit one scheduler over at least `rounds` rounds of single rows. `progress` is told the share that is done.

    Raises `DsparkError` when the name is unknown.
    """
    return audit(scheduler_name, lambda cost: get_scheduler(scheduler_name, cost), rounds, seed, progress)


def audit(
    name: str,
    make: Callable[[StepCost], Scheduler],
    rounds: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> AuditResult:
    """The same for any scheduler; `make` is called for every cost table.

    A fixed number of requests of every row is tallied, to the last one: stopping the clock instead would favour
    requests whose tokens were accepted quickly.
    """
    quota = max(1, -(-rounds // (SERVERS * ROWS * FEWEST_ROUNDS)))
    servers = Servers([make(cost) for cost in COSTS], quota, np.random.default_rng(seed))
    while servers.step():
        if progress:
            progress(servers.done)
    requests = int(servers.tally.sum())
    variation = 0.5 * np.abs(servers.tally / requests - sequence_probabilities()).sum()
    return AuditResult(name, servers.rounds, requests, float(variation), _bound(requests))


def sequence_probabilities() -> Doubles:
    """Exact probability of every sequence of the first tokens, [VOCABULARY ** TOKENS], first token slowest."""
    law = np.ones(1)
    previous = np.zeros(1, np.int64)
    for _ in range(TOKENS):
        law = (law[:, None] * TARGET[previous]).reshape(-1)
        previous = np.tile(np.arange(VOCABULARY), len(previous))
    return law


@cache
def _bound(requests: int) -> float:
    return sampling_bound(sequence_probabilities(), requests)


def sampling_bound(law: Doubles, samples: int, draws: int = 20_000) -> float:
    """The 99.9% quantile of the total variation between `law` and the frequencies of `samples` draws from it."""
    counts = np.random.default_rng(0).multinomial(samples, law, size=draws)
    return float(np.quantile(0.5 * np.abs(counts / samples - law).sum(axis=1), 0.999))


class Servers:
    """All servers in step; arrays are [SERVERS, ROWS] and more."""

    def __init__(self, schedulers: list[Scheduler], quota: int, random: np.random.Generator) -> None:
        self._schedulers, self._quota, self._random = schedulers, quota, random
        shape = (SERVERS, ROWS)
        self._anchor = np.zeros(shape, np.int64)
        self._sequence = np.zeros(shape, np.int64)  # the tokens so far as digits
        self._produced = np.zeros(shape, np.int64)
        self._finished = np.zeros(shape, np.int64)
        self._ids = np.arange(self._anchor.size).reshape(shape)
        self.tally = np.zeros(VOCABULARY**TOKENS, np.int64)
        self.rounds = 0

    @property
    def done(self) -> float:
        """Share of the requests to tally that are through."""
        return float(np.minimum(self._finished, self._quota).mean() / self._quota)

    def step(self) -> bool:
        """One round of every row; False when there is nothing left to tally."""
        tallied = self._finished < self._quota
        if not tallied.any():
            return False
        self.rounds += int(tallied.sum())
        before = self._draft()
        lengths = self._plan(before[..., :BLOCK])
        self._judge(before, lengths)
        self._renew(tallied)
        return True

    def _draft(self) -> Ints:
        """[…, 1 + BLOCK]: the anchor, then the drafted block."""
        tokens = [self._anchor]
        for position in range(BLOCK):
            tokens.append(self._draw(DRAFT[position, tokens[-1]]))
        return np.stack(tokens, axis=-1)

    def _plan(self, before: Ints) -> Ints:
        survival = np.cumprod(CONFIDENCE[np.arange(BLOCK), before], axis=-1)
        caps = TOKENS - 1 - self._produced
        shares = zip(*(np.array_split(a, len(COSTS)) for a in (survival, self._ids, caps)), strict=True)
        plans = zip(self._schedulers, shares, strict=True)
        return np.concatenate([scheduler.plan(*share) for scheduler, share in plans])

    def _judge(self, tokens: Ints, lengths: Ints) -> None:
        """Accept a prefix of each row's first `lengths` draft tokens and add the target's own token."""
        going = np.ones(lengths.shape, bool)
        following = TARGET[tokens[..., 0]]
        for position in range(BLOCK):
            before, token = tokens[..., position], tokens[..., position + 1]
            p, q = TARGET[before], DRAFT[position, before]
            going &= position < lengths
            ratio = np.take_along_axis(p / q, token[..., None], -1)[..., 0]
            accepted = going & (self._random.random(going.shape) < ratio)
            rest = np.maximum(p - q, 0.0)
            rest = rest / np.maximum(rest.sum(-1, keepdims=True), np.finfo(np.float64).tiny)
            following = np.where((going & ~accepted)[..., None], rest, following)
            following = np.where(accepted[..., None], TARGET[token], following)
            self._append(token, accepted)
            going = accepted
        self._append(self._draw(following), np.ones(lengths.shape, bool))

    def _append(self, token: Ints, where: npt.NDArray[np.bool_]) -> None:
        self._sequence = np.where(where, self._sequence * VOCABULARY + token, self._sequence)
        self._anchor = np.where(where, token, self._anchor)
        self._produced += where

    def _renew(self, tallied: npt.NDArray[np.bool_]) -> None:
        """Tally the requests that are through and put new ones into their rows."""
        through = self._produced == TOKENS
        self.tally += np.bincount(self._sequence[through & tallied], minlength=len(self.tally))
        self._finished += through
        self._ids = np.where(through, self._ids + self._ids.size, self._ids)
        for state in (self._anchor, self._sequence, self._produced):
            state[through] = 0

    def _draw(self, law: Doubles) -> Ints:
        """One token from each of the distributions […, VOCABULARY]."""
        uniform = self._random.random(law.shape[:-1])
        drawn = (uniform[..., None] >= np.cumsum(law, axis=-1)[..., :-1]).sum(axis=-1)
        return np.asarray(drawn, np.int64)
