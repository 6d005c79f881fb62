"""The distribution of what speculative rounds put out, enumerated exactly on small models."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dspark_engines.arrays import Doubles, Ints
from dspark_engines.measured import StepCost
from dspark_engines.scheduler import Scheduler


class Row(NamedTuple):
    """One request's model: p, q and confidence of position j by the tokens before it, arrays of j (+ 1) axes."""

    p: list[Doubles]
    q: list[Doubles]
    confidence: list[Doubles]

    def draft_probability(self, drafted: tuple[int, ...]) -> float:
        return float(np.prod([self.q[j][drafted[: j + 1]] for j in range(len(drafted))]))

    def survival(self, drafted: tuple[int, ...]) -> Doubles:
        return np.cumprod([self.confidence[j][drafted[:j]] for j in range(len(drafted))])

    def truth(self) -> Doubles:
        """Probability of every output, one axis a token."""
        law = np.ones(())
        for p in self.p:
            law = law[..., None] * p
        return law

    def law(self, drafted: tuple[int, ...], length: int) -> Doubles:
        """The output's distribution when this is drafted and `length` of it verified, later rounds being right."""
        truth, law, reached = self.truth(), np.zeros_like(self.truth()), 1.0
        for j in range(length):
            before, token = drafted[:j], drafted[j]
            p, q = self.p[j][before], self.q[j][before]
            accepted = min(1.0, p[token] / q[token])
            rest = np.maximum(p - q, 0.0)
            law += reached * (1.0 - accepted) * _continued(truth, before, rest / max(rest.sum(), 1e-300))
            reached *= accepted
        return law + reached * _continued(truth, drafted[:length], self.p[length][drafted[:length]])


def _continued(truth: Doubles, before: tuple[int, ...], following: Doubles) -> Doubles:
    """The law that starts with `before`, goes on by `following` [V] and then as the target does."""
    law = np.zeros_like(truth)
    for token, probability in enumerate(following):
        rest = truth[(*before, token)]
        law[(*before, token)] = probability * rest / rest.sum()
    return law


def joint_law(rows: list[Row], plan: Callable[[Doubles], Ints]) -> Doubles:
    """The joint distribution of all rows' outputs, summed over all drafts; `plan`: [drafts, R, γ] → [drafts, R]."""
    vocabulary, block = len(rows[0].p[0]), len(rows[0].q)
    drafts = list(itertools.product(itertools.product(range(vocabulary), repeat=block), repeat=len(rows)))
    lengths = plan(np.array([[row.survival(x) for row, x in zip(rows, draft, strict=True)] for draft in drafts]))
    total = np.zeros(())
    for draft, taken in zip(drafts, lengths, strict=True):
        law = np.ones(())
        for row, x, length in zip(rows, draft, taken, strict=True):
            law = np.multiply.outer(law, row.draft_probability(x) * row.law(x, int(length)))
        total = total + law
    return total


def product_of_truths(rows: list[Row]) -> Doubles:
    law = np.ones(())
    for row in rows:
        law = np.multiply.outer(law, row.truth())
    return law


def plan_once(scheduler: Scheduler, survival: Doubles) -> Ints:
    """The lengths for every draft at once: leading axes are independent steps."""
    ids = np.arange(survival[..., 0].size).reshape(survival.shape[:-1])
    return scheduler.plan(survival, ids)


def random_row(random: np.random.Generator, vocabulary: int, block: int) -> Row:
    def conditionals(positions: int) -> list[Doubles]:
        spread = np.full(vocabulary, random.choice([0.3, 1.0, 5.0]))
        laws = [random.dirichlet(spread, size=(vocabulary,) * j) + 1e-3 for j in range(positions)]
        return [law / law.sum(axis=-1, keepdims=True) for law in laws]

    levels = np.array([0.0, 0.05, 0.5, 0.9, 0.9, 1.0])
    confidence = [random.choice(levels, size=(vocabulary,) * j) for j in range(block)]
    return Row(conditionals(block + 1), conditionals(block), [np.asarray(c) for c in confidence])


def random_cost(random: np.random.Generator, largest: int) -> StepCost:
    """With a cliff in front of the first draft tokens, behind which a search may find something better."""
    rises = random.choice([0.0, 0.05], size=largest)
    rises[random.integers(2, 4)] += random.uniform(0.3, 1.0)
    return StepCost(enumerate(1.0 + np.cumsum(rises), 1))
