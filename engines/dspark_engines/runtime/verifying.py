"""The verifying half of a round: one packed step for drafts, plain rows and prompts alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dspark_calibration import Round
from dspark_engines.backends import Floats, Ints, VerifyEngine
from dspark_engines.runtime.drafting import Drafts
from dspark_engines.runtime.result import first_stop
from dspark_engines.runtime.state import RequestState
from dspark_engines.sampling import NEXT, SamplingParams, sample_rows, uniforms, verify_rows, verify_uniforms


@dataclass(frozen=True)
class Row:
    """One request's part of a step: its tokens, and how many of their last ones need logits."""

    state: RequestState
    tokens: Ints
    logits: int


@dataclass(frozen=True)
class Outcome:
    """What a row brought: `accepted` draft tokens, then `following` (None while a prompt is being read)."""

    row: Row
    accepted: int
    following: int | None


def plan_rows(states: Sequence[RequestState], drafts: Drafts, lengths: Ints, prefill_budget: int) -> list[Row]:
    """Rows in the order that `decide` expects: those with drafts, then all others.

    Prompts share `prefill_budget` tokens, first come first served, so that reading them stalls nobody for
    long; a prompt that gets none waits for the next round.
    """
    rows = []
    for state, ids, length in zip(drafts.states, drafts.draft_ids, lengths.tolist(), strict=True):
        rows.append(Row(state, np.concatenate([[state.anchor], ids[:length]]), length + 1))
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
    lengths = np.array([len(row.tokens) for row in rows])
    ends = np.cumsum(lengths)
    wanted = [np.arange(end - row.logits, end) for row, end in zip(rows, ends, strict=True)]
    output = engine.step(
        [row.state.verify_slot for row in rows],
        np.concatenate([row.tokens for row in rows]),
        lengths,
        np.array([row.state.used for row in rows]),
        np.concatenate(wanted),
    )
    for row in rows:
        row.state.result.seconds.verify += output.seconds
    return output.logits, np.split(output.features, ends[:-1])


def decide(rows: Sequence[Row], logits: Floats, drafts: Drafts, lengths: Ints) -> list[Outcome]:
    """Accept, reject, draw: the outcome of every row, in order."""
    count = len(drafts)
    if not count:
        return _draw(rows, logits)
    drafted = int(lengths.sum()) + count
    seeds = np.array([row.state.sampling.seed for row in rows[:count]], np.uint64)
    anchors = np.array([row.state.used for row in rows[:count]])
    verified = verify_rows(
        logits[:drafted],
        drafts.draft_ids,
        drafts.draft_logits,
        lengths,
        _temperatures(rows[:count]),
        verify_uniforms(seeds, anchors, drafts.draft_ids.shape[1]),
        _params(rows[:count]),
    )
    pairs = zip(rows, verified.accepted.tolist(), verified.next_ids.tolist(), strict=False)
    return [Outcome(row, accepted, following) for row, accepted, following in pairs] + _draw(
        rows[count:], logits[drafted:]
    )


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
        seeds = np.array([row.state.sampling.seed for row in ready], np.uint64)
        positions = np.array([row.state.used + len(row.tokens) for row in ready])
        random = uniforms(seeds, positions, NEXT)
        drawn = sample_rows(logits, _temperatures(ready), random, _params(ready)).tolist()
    following = iter(drawn)
    return [Outcome(row, 0, next(following) if row.logits else None) for row in rows]


def _temperatures(rows: Sequence[Row]) -> Floats:
    return np.array([row.state.sampling.temperature for row in rows], np.float32)


def _params(rows: Sequence[Row]) -> list[SamplingParams]:
    return [row.state.sampling for row in rows]
