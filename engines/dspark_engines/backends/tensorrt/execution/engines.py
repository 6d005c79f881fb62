"""Both engines: they cut a step into launches and put the results together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dspark_engines.backends.base import (
    DraftEngine,
    DraftOutput,
    Engine,
    Floats,
    Ints,
    VerifyEngine,
    VerifyOutput,
)
from dspark_engines.backends.tensorrt.execution.slots import SlotPool, TrtSlot
from dspark_engines.backends.tensorrt.execution.splitting import Launch, long_rows, narrow_rows
from dspark_engines.backends.tensorrt.packing import by_place, draft_indices, filled, verify_indices
from dspark_engines.backends.tensorrt.shapes import RoleShapes, StepShape

Feeds = Mapping[str, npt.NDArray[Any]]
Outputs = Mapping[str, npt.NDArray[Any]]


class StepRunner(Protocol):
    """Whatever executes a lowered graph with its caches, which it owns.

    Feeds may hold what the graph has no input for: a greedy drafter reads no temperature.
    """

    def run(self, shape: StepShape, first: int, feeds: Feeds) -> tuple[Outputs, float]:
        """One launch on the cache rows from `first` on: outputs by name, valid until the next, and its seconds."""

    def preload(self, shape: StepShape) -> None:
        """Make ready for launches of this shape."""


class _StepEngine(Engine):
    """What both engines do with their launches alike."""

    def __init__(self, runner: StepRunner, shapes: RoleShapes) -> None:
        self._runner, self._shapes = runner, shapes
        self._pool = SlotPool(max(shape.rows for shape in shapes.narrow))

    @property
    def max_rows(self) -> int:
        return self._pool.size

    def new_slot(self) -> TrtSlot:
        return self._pool.take()

    def preload(self, rows: int) -> None:
        largest = self._shapes.fit(min(rows, self.max_rows), 1).rows
        for shape in self._shapes.narrow:
            if shape.rows <= largest:
                self._runner.preload(shape)


class TrtVerifyEngine(_StepEngine, VerifyEngine):
    """`VerifyEngine` on TensorRT. Rows longer than a block run on their own, up to a prefill chunk at a time."""

    def step(
        self, slots: Sequence[TrtSlot], token_ids: Ints, row_lengths: Ints, used: Ints, logit_rows: Ints
    ) -> VerifyOutput:
        launches = list(long_rows(self._shapes, slots, row_lengths, used, keep=0))
        narrow = narrow_rows(self._shapes, slots, row_lengths, used, keep=0)
        launches += [] if narrow is None else [narrow]
        logits: list[Floats] = []
        features: list[Floats] = []
        order, seconds = [], 0.0
        for launch in launches:
            wanted = np.flatnonzero(np.isin(logit_rows, launch.taken))
            outputs, spent = self._launch(launch, token_ids, logit_rows[wanted])
            alone = len(launches) == 1
            logits.append(outputs["logits"][: len(wanted)] if alone else outputs["logits"][: len(wanted)].copy())
            count = len(launch.taken)
            features.append(outputs["features"][:count] if alone else outputs["features"][:count].copy())
            order.append(wanted)
            seconds += spent
        tokens = [launch.taken for launch in launches]
        return VerifyOutput(_in_order(logits, order), _in_order(features, tokens), seconds)

    def _launch(self, launch: Launch, token_ids: Ints, logit_rows: Ints) -> tuple[Outputs, float]:
        shape = launch.shape
        asked = np.searchsorted(launch.taken, logit_rows)
        count = 1 if shape.wide and len(asked) <= 1 else shape.tokens
        feeds = verify_indices(launch.rows, shape, self._shapes.capacity)
        feeds["token_ids"] = filled(token_ids[launch.taken], shape.tokens)
        feeds["logit_rows"] = filled(asked, count)
        return self._runner.run(shape, launch.first, feeds)


class TrtDraftEngine(_StepEngine, DraftEngine):
    """`DraftEngine` on TensorRT. What a prompt leaves is taken in by launches whose drafts nobody reads.

    One built for `greedy` drafts has no output draft_logits.
    """

    def __init__(self, runner: StepRunner, shapes: RoleShapes, greedy: bool = False) -> None:
        super().__init__(runner, shapes)
        self._greedy = greedy

    @property
    def samples(self) -> bool:
        return not self._greedy

    def step(
        self,
        slots: Sequence[TrtSlot],
        features: Floats,
        feature_lengths: Ints,
        used: Ints,
        anchor_ids: Ints,
        temperature: Floats,
        uniforms: Floats,
    ) -> DraftOutput:
        seconds, keep = 0.0, self._shapes.narrow[0].width
        for launch in long_rows(self._shapes, slots, feature_lengths, used, keep):
            rows = len(launch.rows.places)
            zeros = (np.zeros(rows, anchor_ids.dtype), np.zeros(rows, np.float32), np.zeros_like(uniforms[:rows]))
            seconds += self._launch(launch, features, *zeros)[1]
        last = narrow_rows(self._shapes, slots, feature_lengths, used, keep)
        assert last is not None, "every row drafts"
        outputs, spent = self._launch(last, features, anchor_ids, temperature, uniforms)
        ids, confidence = (_rows(outputs[name], last) for name in ("draft_ids", "confidence_logits"))
        none = np.empty((*ids.shape, 0), np.float32)
        logits = none if self._greedy else _rows(outputs["draft_logits"], last)
        return DraftOutput(ids, confidence, logits, seconds + spent)

    def _launch(
        self, launch: Launch, features: Floats, anchor_ids: Ints, temperature: Floats, uniforms: Floats
    ) -> tuple[Outputs, float]:
        shape, places = launch.shape, launch.rows.places
        feeds: dict[str, npt.NDArray[Any]] = dict(
            draft_indices(launch.rows, shape, self._shapes.block, self._shapes.capacity)
        )
        packed = np.zeros((shape.tokens, features.shape[1]), np.float32)
        packed[: len(launch.taken)] = features[launch.taken]
        feeds["features"] = packed
        for name, values in (("anchor_ids", anchor_ids), ("temperature", temperature), ("uniforms", uniforms)):
            feeds[name] = by_place(values, places, shape.rows)
        return self._runner.run(shape, launch.first, feeds)


def _rows(output: npt.NDArray[Any], launch: Launch) -> npt.NDArray[Any]:
    """The served rows of an output [R, ...], without a copy where they are the first ones."""
    places = list(launch.rows.places)
    return output[: len(places)] if places == list(range(len(places))) else output[places]


def _in_order(parts: Sequence[Floats], indices: Sequence[Ints]) -> Floats:
    """Parts, whose lines belong at `indices`, as one array."""
    if len(parts) == 1:
        return parts[0]
    result = np.empty((sum(len(part) for part in parts), *parts[0].shape[1:]), parts[0].dtype)
    for part, index in zip(parts, indices, strict=True):
        result[index] = part
    return result
