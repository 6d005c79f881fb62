"""Prompt lookup as a draft engine: it reads the text, and no features."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from dspark_engines.arrays import Floats, Ints
from dspark_engines.backends.engine import DraftEngine, DraftOutput
from dspark_engines.backends.lookup.index import LookupSpec, Proposal, TextIndex
from dspark_engines.backends.lookup.one_hot import OneHotLogits
from dspark_engines.sampling.contract import DraftLogits


class LookupEngine(DraftEngine):
    """A slot is the request's text behind the prompt's first token, which `next_ids` never show.

    Blocks are of `block_size` tokens out of `vocab_size`. A row for which nothing is found has confidences of
    -infinity: nothing of it is verified. Others are +infinity, as of every drafter without a confidence head; the
    scores of a position are `NGRAM_SCORES` (`Proposal`).
    """

    def __init__(self, block_size: int, vocab_size: int, max_rows: int, spec: LookupSpec | None = None) -> None:
        self._block_size, self._vocab_size, self._max_rows = block_size, vocab_size, max_rows
        self._spec = spec or LookupSpec()

    @property
    def max_rows(self) -> int:
        return self._max_rows

    @property
    def reads_features(self) -> bool:
        return False

    def new_slot(self) -> TextIndex:
        return TextIndex(self._spec)

    def step(
        self,
        slots: Sequence[TextIndex],
        features: Floats,
        feature_lengths: Ints,
        used: Ints,
        anchor_ids: Ints,
        temperature: Floats,
        uniforms: Floats,
        next_ids: Ints | None = None,
    ) -> DraftOutput:
        assert next_ids is not None, "prompt lookup reads the text"
        started = time.perf_counter()
        parts = np.split(next_ids, np.cumsum(feature_lengths)[:-1])
        rows = zip(slots, used.tolist(), parts, strict=True)
        found = [self._propose(slot, start, part.tolist()) for slot, start, part in rows]
        ids, confidence, scores = self._arrays(found)
        logits: DraftLogits = np.empty((*ids.shape, 0), np.float32)
        if temperature.any():
            logits = OneHotLogits(ids, self._vocab_size)
        return DraftOutput(ids, confidence, logits, time.perf_counter() - started, scores)

    def _propose(self, slot: TextIndex, used: int, tokens: list[int]) -> Proposal:
        assert used <= len(slot), "text was skipped"
        slot.truncate(used)
        slot.extend(tokens)
        return slot.propose(self._block_size)

    def _arrays(self, found: Sequence[Proposal]) -> tuple[Ints, Floats, Floats]:
        """draft_ids [R, g], confidence_logits [R, g], scores [R, g, 2]."""
        shape = (len(found), self._block_size)
        ids, scores = np.zeros(shape, np.int64), np.zeros((*shape, 2), np.float32)
        confidence = np.full(shape, -np.inf, np.float32)
        for row, (tokens, matched, agreed) in enumerate(found):
            count = len(tokens)
            ids[row, :count] = tokens
            confidence[row, :count] = np.inf
            scores[row, :count, 0] = matched
            scores[row, :count, 1] = agreed
        return ids, confidence, scores
