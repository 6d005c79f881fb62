"""Both engines on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import onnxruntime

from dspark_engines.backends.base import (
    DraftEngine,
    DraftOutput,
    Floats,
    Ints,
    Slot,
    VerifyEngine,
    VerifyOutput,
)
from dspark_engines.backends.onnxruntime.program import Feeds, OrtProgram
from dspark_plugins.markov_head import OUTPUTS as DRAFT_OUTPUTS

VERIFY_OUTPUTS = ("logits", "features")


class OrtVerifyEngine(VerifyEngine):
    """`VerifyEngine` on ONNX Runtime."""

    def __init__(self, session: onnxruntime.InferenceSession, slots: int, capacity: int) -> None:
        self._program = OrtProgram(session, VERIFY_OUTPUTS, slots, capacity)

    def new_slot(self) -> Slot:
        return self._program.new_slot()

    @property
    def busy_seconds(self) -> float:
        return self._program.busy_seconds

    def step(
        self, slots: Sequence[Slot], token_ids: Ints, row_lengths: Ints, used: Ints, logit_rows: Ints
    ) -> VerifyOutput:
        feeds = {"token_ids": token_ids, "row_lengths": row_lengths, "used": used, "logit_rows": logit_rows}
        return VerifyOutput(*self._program.run(slots, feeds))


class OrtDraftEngine(DraftEngine):
    """`DraftEngine` on ONNX Runtime."""

    def __init__(self, session: onnxruntime.InferenceSession, slots: int, capacity: int) -> None:
        self._program = OrtProgram(session, DRAFT_OUTPUTS, slots, capacity)

    def new_slot(self) -> Slot:
        return self._program.new_slot()

    @property
    def busy_seconds(self) -> float:
        return self._program.busy_seconds

    def step(
        self,
        slots: Sequence[Slot],
        features: Floats,
        feature_lengths: Ints,
        used: Ints,
        anchor_ids: Ints,
        temperature: Floats,
        uniforms: Floats,
    ) -> DraftOutput:
        feeds: Feeds = {
            "features": features,
            "feature_lengths": feature_lengths,
            "used": used,
            "anchor_ids": anchor_ids,
            "temperature": temperature,
            "uniforms": uniforms,
        }
        return DraftOutput(*self._program.run(slots, feeds))
