"""Both engines on ONNX Runtime: they fill a step up to the bucket that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dspark_engines.arrays import Floats, Ints
from dspark_engines.backends.engine import DraftEngine, DraftOutput, Engine, Slot, VerifyEngine, VerifyOutput
from dspark_engines.backends.exported import NEXT_IDS, SCORES, has_scores
from dspark_engines.backends.onnxruntime.buckets import Buckets
from dspark_engines.backends.onnxruntime.program import Feeds
from dspark_engines.bundle import Bundle, Role
from dspark_engines.sampling.contract import DraftLogits, ReducedLogits
from dspark_plugins.markov_head import OUTPUTS as DRAFT_OUTPUTS

VERIFY_OUTPUTS = ("logits", "features")


def role_outputs(bundle: Bundle, role: Role) -> tuple[str, ...]:
    """What the engine of a role asks of its programs, in order."""
    if role == "verify":
        return VERIFY_OUTPUTS
    return (*DRAFT_OUTPUTS, SCORES) if has_scores(bundle) else DRAFT_OUTPUTS


class BucketedEngine(Engine):
    """What both engines do with their buckets alike."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    @property
    def max_rows(self) -> int:
        return self._buckets.max_rows

    def new_slot(self) -> Slot:
        return self._buckets.new_slot()

    def preload(self, rows: int) -> None:
        self._buckets.preload(rows)


class OrtVerifyEngine(BucketedEngine, VerifyEngine):
    """`VerifyEngine` on ONNX Runtime. A filling row is one token on an empty cache.

    Where no logits are asked for one row of them is computed all the same: reductions of ONNX Runtime give an empty
    tensor another rank than they declared.
    """

    def step(
        self, slots: Sequence[Slot], token_ids: Ints, row_lengths: Ints, used: Ints, logit_rows: Ints
    ) -> VerifyOutput:
        rows = self._buckets.size_for(len(slots)) - len(slots)
        feeds = {
            "token_ids": fill(token_ids, rows),
            "row_lengths": fill(row_lengths, rows, value=1),
            "used": fill(used, rows),
            "logit_rows": logit_rows if logit_rows.size else np.zeros(1, np.int64),
        }
        (logits, features), seconds = self._buckets.run(slots, feeds)
        return VerifyOutput(logits[: logit_rows.size], features[: len(token_ids)], seconds)


class OrtDraftEngine(BucketedEngine, DraftEngine):
    """`DraftEngine` on ONNX Runtime. A filling row is a block without context.

    With a `vocabulary` [Vd] the programs' logits are over these of `vocab_size` tokens. Where it `reads_text`, rows
    have one feature at least, and so has a filling row, on an empty cache.
    """

    def __init__(
        self, buckets: Buckets, vocabulary: Ints | None = None, vocab_size: int = 0, *, reads_text: bool = False
    ) -> None:
        super().__init__(buckets)
        self._vocabulary, self._vocab_size, self._reads_text = vocabulary, vocab_size, reads_text

    def step(
        self,
        slots: Sequence[Slot],
        features: Floats,
        feature_lengths: Ints,
        used: Ints,
        anchor_ids: Ints,
        temperature: Floats,
        uniforms: Floats,
        next_ids: Ints | None = None,
    ) -> DraftOutput:
        rows, count = self._buckets.size_for(len(slots)) - len(slots), len(slots)
        feeds: Feeds = {
            "features": fill(features, rows * self._reads_text),
            "feature_lengths": fill(feature_lengths, rows, value=int(self._reads_text)),
            "used": fill(used, rows),
            "anchor_ids": fill(anchor_ids, rows),
            "temperature": fill(temperature, rows),
            "uniforms": fill(uniforms, rows),
        }
        if self._reads_text:
            assert next_ids is not None, "the runtime says what lies behind every feature"
            feeds = {**feeds, NEXT_IDS: fill(next_ids, rows)}
        (ids, confidence, logits, *scores), seconds = self._buckets.run(slots, feeds)
        drafted: DraftLogits = logits[:count]
        if self._vocabulary is not None:
            drafted = ReducedLogits(logits[:count], self._vocabulary, self._vocab_size)
        return DraftOutput(ids[:count], confidence[:count], drafted, seconds, *(part[:count] for part in scores))


def fill(array: Any, rows: int, value: int = 0) -> Any:
    """`array` with `rows` more entries along its first axis, all `value`."""
    if not rows:
        return array
    return np.concatenate([array, np.full((rows, *array.shape[1:]), value, array.dtype)])
