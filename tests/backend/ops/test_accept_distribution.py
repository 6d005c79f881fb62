"""What `dspark::Accept` puts out is distributed as the target alone would have it, whatever drafts and lengths are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dspark_plugins.accept.reference import AcceptResult, accept, draw, probabilities
from tests.support.accept_body import body
from tests.support.accept_cases import Feeds, assert_same, pack, starts_of

VOCAB, BLOCK, TEMPERATURE = 5, 2, 0.8
SAMPLES, CHUNK = 250_000, 25_000
ANCHOR = VOCAB  # the state before the first token

Step = Callable[[Feeds], AcceptResult]


class World:
    """A first-order Markov target and drafter: logits [state, V], the anchor's state last."""

    def __init__(self, excluded: bool = False, greedy: bool = False) -> None:
        self.random, self.greedy = np.random.default_rng(7), greedy
        self.target = self.random.standard_normal((VOCAB + 1, VOCAB)).astype(np.float32)
        self.draft = self.random.standard_normal((VOCAB + 1, VOCAB)).astype(np.float32)
        if excluded:  # as a truncation of the target does; the drafter does not know
            self.target[np.arange(VOCAB + 1), self.target.argmin(-1)] = -np.inf
        self.p, self.q = probabilities(self.target, TEMPERATURE), probabilities(self.draft, TEMPERATURE)

    def joint(self) -> np.ndarray:
        """[V, V]: the truth about the first two tokens."""
        return self.p[ANCHOR][:, None] * self.p[:VOCAB]

    def drawn(self, states: np.ndarray) -> np.ndarray:
        """Drafts of one token behind each of the states."""
        if self.greedy:
            return self.q.argmax(-1)[states]
        cdf = self.q.cumsum(-1)[states]
        return (cdf < self.random.random((len(states), 1)) * cdf[:, -1:]).sum(-1)

    def feeds(self, states: np.ndarray) -> Feeds:
        """A round for every one of the states, with lengths that do not look at the drafts."""
        first = self.drawn(states)
        ids = np.stack([first, self.drawn(first)], axis=1)
        path = np.concatenate([states[:, None], ids], axis=1)
        lengths = self.random.integers(0, BLOCK + 1, len(states))
        return {
            "logits": pack(self.target[path], lengths),
            "draft_ids": ids,
            "draft_logits": self.draft[path[:, :BLOCK]],
            "verify_lengths": lengths,
            "temperature": np.full(len(states), TEMPERATURE, np.float32),
            "uniforms": self.random.random((len(states), BLOCK + 1, 2), dtype=np.float32),
        }


def two_tokens(world: World, step: Step, samples: int = SAMPLES) -> np.ndarray:
    """Counts [V, V] of the first two tokens of so many outputs; rounds that end after one token go on."""
    counts = np.zeros((VOCAB, VOCAB), np.int64)
    for _ in range(samples // CHUNK):
        feeds = world.feeds(np.full(CHUNK, ANCHOR))
        accepted, following = step(feeds)
        drafts, short = feeds["draft_ids"], accepted == 0
        first = np.where(short, following, drafts[:, 0])
        second = np.where(accepted == 1, following, drafts[:, 1])
        again = world.feeds(first[short])
        accepted, following = step(again)
        second[short] = np.where(accepted == 0, following, again["draft_ids"][:, 0])
        np.add.at(counts, (first, second), 1)
    return counts


def distance(counts: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(total variation between counts and truth, what 999 of 1,000 true samples stay below)."""
    total, flat = counts.sum(), truth.reshape(-1)
    null = np.random.default_rng(0).multinomial(total, flat, size=20_000) / total
    return (
        float(np.abs(counts.reshape(-1) / total - flat).sum() / 2),
        float(np.quantile(np.abs(null - flat).sum(-1) / 2, 0.999)),
    )


@pytest.mark.parametrize("excluded", [False, True], ids=["whole", "truncated"])
def test_output_has_the_targets_distribution(excluded: bool) -> None:
    world = World(excluded)
    counts, truth = two_tokens(world, body), world.joint()
    assert counts.sum() == SAMPLES
    assert (counts[truth == 0] == 0).all()
    for actual, expected in ((counts, truth), (counts.sum(1), truth.sum(1))):
        variation, bound = distance(actual, expected)
        assert variation < bound
        assert bound < 0.006


def test_drafts_taken_as_certain_cost_acceptance_only() -> None:
    """q = 1 at the draft is true of a drafter that always proposes it, whatever made it do so."""
    world, rates = World(), []

    def certain(feeds: Feeds) -> AcceptResult:
        one_hot = np.where(np.eye(VOCAB, dtype=bool)[feeds["draft_ids"]], np.float32(0), np.float32(-np.inf))
        result = body(feeds | {"draft_logits": one_hot})
        rates.append((result.accepted.mean(), body(feeds).accepted.mean()))
        return result

    variation, bound = distance(two_tokens(world, certain, 2 * CHUNK), world.joint())
    assert variation < bound
    assert all(with_one_hot < 0.8 * with_q for with_one_hot, with_q in rates)


def shared_uniform(feeds: Feeds) -> AcceptResult:
    """One uniform both decides and draws."""
    return body(feeds | {"uniforms": np.repeat(feeds["uniforms"][..., :1], 2, axis=-1)})


def no_residual(feeds: Feeds) -> AcceptResult:
    """A rejection draws from the target itself."""
    result, lengths = body(feeds), feeds["verify_lengths"]
    stops = starts_of(lengths) + result.accepted
    next_uniforms = feeds["uniforms"][np.arange(len(lengths)), result.accepted, 1]
    following = [
        draw(p, u) for p, u in zip(probabilities(feeds["logits"][stops], TEMPERATURE), next_uniforms, strict=True)
    ]
    return AcceptResult(result.accepted, np.array(following))


@pytest.mark.parametrize(
    ("world", "step"),
    [(World(greedy=True), body), (World(), shared_uniform), (World(), no_residual)],
    ids=["greedy-drafts-said-to-be-sampled", "shared-uniform", "no-residual"],
)
def test_the_audit_notices_mistakes(world: World, step: Step) -> None:
    variation, bound = distance(two_tokens(world, step, 2 * CHUNK), world.joint())
    assert variation > 2 * bound


def test_many_rows_match_the_oracle() -> None:
    feeds = World(excluded=True).feeds(np.full(2_000, ANCHOR))
    assert assert_same(feeds, body(feeds), accept(**feeds)) <= 1
