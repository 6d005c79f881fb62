"""Engines that give some requests numbers that are not finite, and everybody else what the engine inside gives.

Requests are known by the order in which their slots were made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from dspark_engines.backends import DraftEngine, DraftOutput, VerifyEngine, VerifyOutput


class _Spoiled:
    def __init__(self, engine: Any, victims: Collection[int]) -> None:
        self.engine, self.victims, self.slots = engine, victims, list[Any]()

    @property
    def max_rows(self) -> int:
        return int(self.engine.max_rows)

    def new_slot(self) -> Any:
        self.slots.append(self.engine.new_slot())
        return self.slots[-1]

    def hits(self, slot: Any) -> bool:
        """Whether this is a victim's slot."""
        return any(slot is self.slots[victim] for victim in self.victims if victim < len(self.slots))


class SpoiledVerify(_Spoiled, VerifyEngine):
    """Logits and features of victims are `value` from position `at` of their text on."""

    def __init__(self, engine: VerifyEngine, victims: Collection[int], value: float, at: int = 0) -> None:
        super().__init__(engine, victims)
        self.value, self.at = value, at

    def step(
        self, slots: Any, token_ids: np.ndarray, row_lengths: np.ndarray, used: np.ndarray, logit_rows: np.ndarray
    ) -> VerifyOutput:
        output = self.engine.step(slots, token_ids, row_lengths, used, logit_rows)
        logits, features = output.logits.copy(), output.features.copy()
        row_of = np.repeat(np.arange(len(slots)), row_lengths)
        starts = np.cumsum(row_lengths) - row_lengths
        for index, row in enumerate(row_of):
            position = used[row] + index - starts[row]
            if self.hits(slots[row]) and position >= self.at:
                features[index] = self.value
                logits[logit_rows == index] = self.value
        return output._replace(logits=logits, features=features)


Spoil = Callable[[int, np.ndarray, np.ndarray], None]
"""Changes confidences [g] and draft logits [g, V or 0] of a victim's k-th block (k from 0) in place."""


class SpoiledDraft(_Spoiled, DraftEngine):
    """Blocks of victims go through `spoil`; `blocks` counts them by slot."""

    def __init__(self, engine: DraftEngine, victims: Collection[int], spoil: Spoil) -> None:
        super().__init__(engine, victims)
        self.spoil, self.blocks = spoil, dict[int, int]()

    def step(self, slots: Any, *args: Any, **kwargs: Any) -> DraftOutput:
        output = self.engine.step(slots, *args, **kwargs)
        confidence, logits = output.confidence_logits.copy(), np.array(output.draft_logits)
        for row, slot in enumerate(slots):
            if self.hits(slot):
                count = self.blocks.get(id(slot), 0)
                self.spoil(count, confidence[row], logits[row])
                self.blocks[id(slot)] = count + 1
        return output._replace(confidence_logits=confidence, draft_logits=logits)
