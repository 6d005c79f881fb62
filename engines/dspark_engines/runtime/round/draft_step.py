"""The drafting half of a round: blocks, confidences, and what the rejection test will need of q."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dspark_calibration.sts import Scaling, confidences
from dspark_engines.arrays import Floats, Ints
from dspark_engines.backends import DraftEngine, DraftOutput
from dspark_engines.runtime.round.state import RequestState
from dspark_engines.sampling import draft_uniforms
from dspark_engines.sampling.contract import DraftLogits, HeldLogits


@dataclass(frozen=True)
class Drafts:
    """Blocks of the rows that drafted, row r belonging to states[r].

    `survival` [R, g] float64 is the cumulative product of the calibrated confidences, 0 behind a drafted end of
    sequence and from a number on that is not finite (see `broken_positions`); `caps` [R] is how much of its block a row
    may verify at all (length limit, context).
    `confidence_logits` [R, g] are the drafter's own, as they were before any calibration.
    """

    states: Sequence[RequestState]
    draft_ids: Ints
    draft_logits: DraftLogits
    survival: npt.NDArray[np.float64]
    caps: Ints
    confidence_logits: Floats
    bad: Sequence[RequestState] = ()
    """Those of `states` whose block has such a number."""

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True)
class DraftRules:
    """What decides how much of a block is of use."""

    block_size: int
    context_length: int
    eos: frozenset[int]
    scaling: Scaling | None = None
    """How confidence logits are calibrated; None leaves them as they are."""

    def cap(self, state: RequestState) -> int:
        """How many draft tokens are worth having: none when plain, no more than may become output."""
        if not state.speculating or state.reading:
            return 0
        room = self.context_length - state.used - 2  # beside the anchor and the target's own next token
        return max(0, min(self.block_size, state.remaining - 1, room))

    def nothing(self) -> Drafts:
        """Drafts of no row."""
        g = self.block_size
        ids, logits = np.empty((0, g), np.int64), np.empty((0, g, 0), np.float32)
        return Drafts([], ids, logits, np.empty((0, g)), np.empty(0, np.int64), np.empty((0, g), np.float32))


def draft_blocks(engine: DraftEngine, chosen: Sequence[RequestState], rules: DraftRules) -> Drafts:
    """Draft for these, all of which can make use of a draft. Their pending features are consumed, unless the engine
    raises: then nothing has changed."""
    features = [state.join_pending() for state in chosen]
    caps = np.array([rules.cap(state) for state in chosen])  # before the step: they know nothing of its tokens
    output = engine.step(
        [state.draft_slot for state in chosen],
        features[0] if len(features) == 1 else np.concatenate(features),
        feature_lengths=np.array([len(part) for part in features]),
        used=np.array([state.drafted for state in chosen]),
        anchor_ids=np.array([state.anchor for state in chosen]),
        temperature=np.array([state.sampling.temperature for state in chosen], np.float32),
        uniforms=_uniforms(chosen, rules.block_size),
        next_ids=np.concatenate([state.pending_ids() for state in chosen]),
    )
    for state in chosen:
        state.mark_drafted()
        state.clock.drafted(output.seconds)
    broken, raw = broken_positions(output, chosen), output.confidence_logits
    survival = prefix_survival(np.where(broken, np.float32(0), raw), rules.scaling)
    survival[broken] = 0.0
    _end(survival, output.draft_ids, rules.eos)
    bad = [state for state, row in zip(chosen, broken, strict=True) if row[-1]]
    return Drafts(chosen, output.draft_ids, output.draft_logits, survival, caps, raw, bad)


def broken_positions(output: DraftOutput, chosen: Sequence[RequestState]) -> npt.NDArray[np.bool_]:
    """[R, g]: the first position of a block whose confidence is NaN, or whose q is no distribution, and all behind it.

    What makes x_j unfit for verification is known from the tokens before it, so cutting here costs no losslessness;
    throwing the whole block away would. q (its greatest logit finite) is looked at for sampled requests, and where
    the host has it.
    """
    broken = np.isnan(output.confidence_logits)
    held = output.draft_logits
    logits = held.on_host() if isinstance(held, HeldLogits) else held
    if logits is not None:
        for row, state in enumerate(chosen):
            if not state.sampling.greedy:
                broken[row] |= ~np.isfinite(logits[row].max(axis=-1))
    return np.logical_or.accumulate(broken, axis=1)


def prefix_survival(confidence_logits: Floats, scaling: Scaling | None = None) -> npt.NDArray[np.float64]:
    """Cumulative product of the (calibrated) confidences along the block, [R, g] float64 (design: prefix survival)."""
    return np.asarray(np.cumprod(confidences(confidence_logits.astype(np.float64), scaling), axis=1))


def _uniforms(chosen: Sequence[RequestState], block_size: int) -> Floats:
    """[R, g] for the draft engine. Greedy requests look at none of theirs, so none are made for them alone."""
    if all(state.sampling.greedy for state in chosen):
        return np.zeros((len(chosen), block_size), np.float32)
    seeds = np.array([state.sampling.seed for state in chosen], np.uint64)
    return draft_uniforms(seeds, np.array([state.used for state in chosen]), block_size)


def _end(survival: npt.NDArray[np.float64], draft_ids: Ints, eos: frozenset[int]) -> None:
    """Set to 0 what is behind a drafted end of sequence: nothing there can become output."""
    if not eos.isdisjoint(draft_ids.ravel().tolist()):
        ended = np.logical_or.accumulate(np.isin(draft_ids, list(eos)), axis=1)
        survival[:, 1:][ended[:, :-1]] = 0.0
