"""The verifying half of a round: one packed step for drafts, plain rows and prompts alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from dspark_calibration import Round
from dspark_engines.arrays import Floats, Ints
from dspark_engines.backends import VerifyEngine, VerifyOutput
from dspark_engines.errors import GenerationError
from dspark_engines.runtime.result import first_stop
from dspark_engines.runtime.round.draft_step import Drafts
from dspark_engines.runtime.round.state import RequestState
from dspark_engines.sampling import accept_step, accept_uniforms
from dspark_engines.sampling.contract import AcceptInputs
from dspark_plugins.accept import BROKEN


class Row(NamedTuple):
    """One request's part of a step: its tokens, and how many of their last ones need logits."""

    state: RequestState
    tokens: Ints
    logits: int


class Outcome(NamedTuple):
    """What a row brought: `accepted` draft tokens, then `following` (None while a prompt is being read, `BROKEN` where
    the target's logits are not finite)."""

    row: Row
    accepted: int
    following: int | None


def plan_rows(states: Sequence[RequestState], drafts: Drafts, lengths: Ints, prefill_budget: int) -> list[Row]:
    """Rows in the order that `accept` expects: those with drafts, then all others.

    Prompts share `prefill_budget` tokens, first come first served, so that reading them stalls nobody for
    long; a prompt that gets none waits for the next round.
    """
    blocks = np.empty((len(drafts), 1 + drafts.draft_ids.shape[1]), np.int64)
    blocks[:, 0], blocks[:, 1:] = [state.anchor for state in drafts.states], drafts.draft_ids
    cut = zip(drafts.states, blocks, lengths.tolist(), strict=True)
    rows = [Row(state, block[: length + 1], length + 1) for state, block, length in cut]
    drafting = set(drafts.states)
    for state in states:
        if state in drafting:
            continue
        if not state.reading:
            rows.append(Row(state, np.array([state.anchor]), 1))
        elif prefill_budget:
            part = state.prompt[state.used : state.used + prefill_budget]
            prefill_budget -= len(part)
            rows.append(Row(state, part, int(state.used + len(part) == len(state.prompt))))
    return rows


def plan_accept(rows: Sequence[Row], drafts: Drafts, lengths: Ints) -> AcceptInputs:
    """Of the rows with logits: those with drafts verify as many tokens as `lengths` say, the others none."""
    ready = _ready(rows)
    ids = np.zeros((len(ready), drafts.draft_ids.shape[1]), np.int64)
    verify_lengths = np.zeros(len(ready), np.int64)
    ids[: len(drafts)], verify_lengths[: len(drafts)] = drafts.draft_ids, lengths
    temperature = np.array([row.state.sampling.temperature for row in ready], np.float32)
    return AcceptInputs(
        ids, drafts.draft_logits, verify_lengths, temperature, _uniforms(ready, max(lengths.tolist(), default=0))
    )


def run_rows(engine: VerifyEngine, rows: Sequence[Row], inputs: AcceptInputs) -> tuple[VerifyOutput, list[Floats]]:
    """One step of the verify engine: its output, and every row's features (the engine's own memory)."""
    lengths = [len(row.tokens) for row in rows]
    ends = list(accumulate(lengths))
    wanted = [index for row, end in zip(rows, ends, strict=True) for index in range(end - row.logits, end)]
    step = (
        [row.state.verify_slot for row in rows],
        np.concatenate([row.tokens for row in rows]),
        np.array(lengths),
        np.array([row.state.used for row in rows]),
        np.array(wanted, np.int64),
    )
    on_device = _accepts_on_device(engine, _ready(rows))
    output = engine.step_and_accept(*step, inputs) if on_device else engine.step(*step)
    for row in rows:
        row.state.clock.verified(output.seconds)
    return output, [output.features[end - length : end] for length, end in zip(lengths, ends, strict=True)]


def accept(rows: Sequence[Row], output: VerifyOutput, inputs: AcceptInputs) -> list[Outcome]:
    """Accept, reject, draw, unless the engine has: the outcome of every row, in order."""
    accepted = output.accepted
    if accepted is None:
        accepted = accept_step(output.logits, inputs, [row.state.sampling for row in _ready(rows)])
    found = zip(accepted.accepted.tolist(), accepted.next_ids.tolist(), strict=True)
    return [Outcome(row, *next(found)) if row.logits else Outcome(row, 0, None) for row in rows]


def commit(outcome: Outcome, features: Floats, eos: frozenset[int]) -> list[int]:
    """Advance the row's state past what was kept; returns the tokens that the request gained.

    A row without a next token leaves its state as it was, but for the `failure`.
    """
    row, state = outcome.row, outcome.row.state
    if outcome.following == BROKEN:
        state.failure = _failure(outcome)
        return []
    reading = state.reading
    kept = len(row.tokens) if reading else outcome.accepted + 1
    state.used += kept
    state.keep_features(features[:kept])
    if outcome.following is None:
        return []
    produced = [*row.tokens[1 : outcome.accepted + 1].tolist(), outcome.following]
    produced = produced[: first_stop(produced, eos)]
    if not reading:
        accepted = min(outcome.accepted, len(produced))
        state.result.rounds.append(Round(len(row.tokens) - 1, accepted, len(produced)))
    state.result.token_ids.extend(produced)
    state.clock.gained()
    state.anchor = produced[-1]
    return produced


def _failure(outcome: Outcome) -> GenerationError:
    row, state = outcome.row, outcome.row.state
    position = state.used + len(row.tokens) - row.logits + outcome.accepted + 1
    return GenerationError(
        f"the target's logits are NaN or infinite at position {position} "
        f"(token {position - len(state.prompt) + 1} of the output)",
        hint="the weights may hold NaN: check them, and the bundle with dspark-export check",
    )


def _ready(rows: Sequence[Row]) -> list[Row]:
    """Those that gain tokens: all but prompts that go on."""
    return [row for row in rows if row.logits]


def _accepts_on_device(engine: VerifyEngine, ready: Sequence[Row]) -> bool:
    """Whether the engine accepts for these rows; truncated distributions are the host's business."""
    sampling = [row.state.sampling for row in ready]
    return (
        bool(ready)
        and engine.accepts_on_device(not all(params.greedy for params in sampling))
        and not any(params.truncates for params in sampling)
    )


def _uniforms(ready: Sequence[Row], longest: int) -> Floats:
    """[T, longest + 1, 2], numbered by the position of every row's anchor, or of its prompt's last token.

    Greedy requests look at none of theirs, so none are made for them alone.
    """
    if all(row.state.sampling.greedy for row in ready):
        return np.zeros((len(ready), longest + 1, 2), np.float32)
    seeds = np.array([row.state.sampling.seed for row in ready], np.uint64)
    anchors = np.array([row.state.used + len(row.tokens) - row.logits for row in ready])
    return accept_uniforms(seeds, anchors, longest)
