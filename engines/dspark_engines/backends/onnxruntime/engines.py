"""Both engines on ONNX Runtime: they fill a step up to the bucket that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dspark_engines.arrays import Floats, Ints
from dspark_engines.backends.engine import DraftEngine, DraftOutput, Engine, Slot, VerifyEngine, VerifyOutput
from dspark_engines.backends.onnxruntime.buckets import Buckets
from dspark_engines.backends.onnxruntime.program import Feeds
from dspark_engines.sampling.contract import DraftLogits, ReducedLogits
from dspark_plugins.markov_head import OUTPUTS as DRAFT_OUTPUTS

VERIFY_OUTPUTS = ("logits", "features")
ROLE_OUTPUTS = {"verify": VERIFY_OUTPUTS, "draft": DRAFT_OUTPUTS}


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

    With a `vocabulary` [Vd] the programs' logits are over these of `vocab_size` tokens.
    """

    def __init__(self, buckets: Buckets, vocabulary: Ints | None = None, vocab_size: int = 0) -> None:
        super().__init__(buckets)
        self._vocabulary, self._vocab_size = vocabulary, vocab_size

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
            "features": features,
            "feature_lengths": fill(feature_lengths, rows),
            "used": fill(used, rows),
            "anchor_ids": fill(anchor_ids, rows),
            "temperature": fill(temperature, rows),
            "uniforms": fill(uniforms, rows),
        }
        (ids, confidence, logits), seconds = self._buckets.run(slots, feeds)
        drafted: DraftLogits = logits[:count]
        if self._vocabulary is not None:
            drafted = ReducedLogits(logits[:count], self._vocabulary, self._vocab_size)
        return DraftOutput(ids[:count], confidence[:count], drafted, seconds)


def fill(array: Any, rows: int, value: int = 0) -> Any:
    """`array` with `rows` more entries along its first axis, all `value`."""
    if not rows:
        return array
    return np.concatenate([array, np.full((rows, *array.shape[1:]), value, array.dtype)])
