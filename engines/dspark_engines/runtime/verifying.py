"""The verifying half of a round: one packed step for drafts, plain rows and prompts alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from dspark_calibration import Round
from dspark_engines.backends import Floats, Ints, VerifyEngine
from dspark_engines.runtime.drafting import Drafts
from dspark_engines.runtime.result import first_stop
from dspark_engines.runtime.state import RequestState
from dspark_engines.sampling import NEXT, SamplingParams, sample_rows, uniforms, verify_rows, verify_uniforms
from dspark_engines.sampling.philox import Vector


class Row(NamedTuple):
    """One request's part of a step: its tokens, and how many of their last ones need logits."""

    state: RequestState
    tokens: Ints
    logits: int


class Outcome(NamedTuple):
    """What a row brought: `accepted` draft tokens, then `following` (None while a prompt is being read)."""

    row: Row
    accepted: int
    following: int | None


def plan_rows(states: Sequence[RequestState], drafts: Drafts, lengths: Ints, prefill_budget: int) -> list[Row]:
    """Rows in the order that `decide` expects: those with drafts, then all others.

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


def run_rows(engine: VerifyEngine, rows: Sequence[Row]) -> tuple[Floats, list[Floats]]:
    """One step of the verify engine: packed logits, and every row's features (the engine's own memory)."""
    lengths = [len(row.tokens) for row in rows]
    ends = list(accumulate(lengths))
    wanted = [index for row, end in zip(rows, ends, strict=True) for index in range(end - row.logits, end)]
    output = engine.step(
        [row.state.verify_slot for row in rows],
        np.concatenate([row.tokens for row in rows]),
        np.array(lengths),
        np.array([row.state.used for row in rows]),
        np.array(wanted, np.int64),
    )
    for row in rows:
        row.state.result.seconds.verify += output.seconds
    return output.logits, [output.features[end - length : end] for length, end in zip(lengths, ends, strict=True)]


def decide(rows: Sequence[Row], logits: Floats, drafts: Drafts, lengths: Ints) -> list[Outcome]:
    """Accept, reject, draw: the outcome of every row, in order."""
    count = len(drafts)
    if not count:
        return _draw(rows, logits)
    drafted = sum(lengths.tolist()) + count
    verified = verify_rows(
        logits[:drafted],
        drafts.draft_ids,
        drafts.draft_logits,
        lengths,
        _temperatures(rows[:count]),
        _block_uniforms(rows[:count], drafts.draft_ids.shape[1]),
        _params(rows[:count]),
    )
    pairs = zip(rows, verified.accepted.tolist(), verified.next_ids.tolist(), strict=False)
    outcomes = [Outcome(row, accepted, following) for row, accepted, following in pairs]
    return outcomes + _draw(rows[count:], logits[drafted:]) if len(rows) > count else outcomes


def commit(outcome: Outcome, features: Floats, eos: frozenset[int]) -> list[int]:
    """Advance the row's state past what was kept; returns the tokens that the request gained."""
    row, state = outcome.row, outcome.row.state
    reading = state.reading
    kept = len(row.tokens) if reading else outcome.accepted + 1
    state.used += kept
    if state.speculating:
        state.pending.append(features[:kept].copy())  # the engine owns its outputs
    if outcome.following is None:
        return []
    produced = [*row.tokens[1 : outcome.accepted + 1].tolist(), outcome.following]
    produced = produced[: first_stop(produced, eos)]
    if not reading:
        accepted = min(outcome.accepted, len(produced))
        state.result.rounds.append(Round(len(row.tokens) - 1, accepted, len(produced)))
    state.result.token_ids.extend(produced)
    state.anchor = produced[-1]
    return produced


def _draw(rows: Sequence[Row], logits: Floats) -> list[Outcome]:
    """Rows without drafts: one token each, but for those whose prompt goes on."""
    ready = [row for row in rows if row.logits]
    drawn: list[int] = []
    if ready:
        drawn = sample_rows(logits, _temperatures(ready), _next_uniforms(ready), _params(ready)).tolist()
    following = iter(drawn)
    return [Outcome(row, 0, next(following) if row.logits else None) for row in rows]


def _block_uniforms(rows: Sequence[Row], block_size: int) -> Floats:
    """[R, g + 1, 2] for `verify_rows`. Greedy requests look at none of theirs, so none are made for them alone."""
    if _greedy(rows):
        return np.zeros((len(rows), block_size + 1, 2), np.float32)
    return verify_uniforms(_seeds(rows), np.array([row.state.used for row in rows]), block_size)


def _next_uniforms(rows: Sequence[Row]) -> Floats:
    """[R] for `sample_rows`, of the positions behind the rows."""
    if _greedy(rows):
        return np.zeros(len(rows), np.float32)
    return uniforms(_seeds(rows), np.array([row.state.used + len(row.tokens) for row in rows]), NEXT)


def _greedy(rows: Sequence[Row]) -> bool:
    return all(row.state.sampling.greedy for row in rows)


def _seeds(rows: Sequence[Row]) -> Vector:
    return np.array([row.state.sampling.seed for row in rows], np.uint64)


def _temperatures(rows: Sequence[Row]) -> Floats:
    return np.array([row.state.sampling.temperature for row in rows], np.float32)


def _params(rows: Sequence[Row]) -> list[SamplingParams]:
    return [row.state.sampling for row in rows]
