"""Both engines: they cut a step into launches and put the results together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_engines.arrays import Floats, Ints
from dspark_engines.backends.engine import DraftEngine, DraftOutput, Engine, VerifyEngine, VerifyOutput
from dspark_engines.backends.padded.acceptor import PaddedAcceptor
from dspark_engines.backends.padded.held_logits import LogitKeeper, PaddedHeldLogits
from dspark_engines.backends.padded.launches import Launch, long_rows, narrow_rows
from dspark_engines.backends.padded.outputs import Pieces, served_rows
from dspark_engines.backends.padded.packing import by_place, draft_indices, filled, verify_indices
from dspark_engines.backends.padded.runner import NOTHING, Outputs, StepRunner
from dspark_engines.backends.padded.shapes import RoleShapes, StepShape
from dspark_engines.backends.padded.slots import PaddedSlot, SlotPool
from dspark_engines.sampling.contract import Accepted, AcceptInputs, DraftLogits

LOGITS, DRAFT_LOGITS = frozenset({"logits"}), frozenset({"draft_logits"})


class _StepEngine(Engine):
    """What both engines do with their launches alike."""

    def __init__(self, runner: StepRunner, shapes: RoleShapes) -> None:
        self._runner, self._shapes = runner, shapes
        self._pool = SlotPool(max(shape.rows for shape in shapes.narrow))

    @property
    def max_rows(self) -> int:
        return self._pool.size

    def new_slot(self) -> PaddedSlot:
        return self._pool.take()

    def preload(self, rows: int) -> None:
        largest = self._shapes.fit(min(rows, self.max_rows), 1).rows
        for shape in self._shapes.narrow:
            if shape.rows <= largest:
                self._preload(shape)

    def _preload(self, shape: StepShape) -> None:
        self._runner.preload(shape)

    def _begin(self, slots: Sequence[PaddedSlot], used: Ints) -> None:
        """Clear the rows of requests whose caches are empty."""
        for slot, cells in zip(slots, used.tolist(), strict=True):
            if not cells:
                self._runner.clear(slot.place)


class PaddedVerifyEngine(_StepEngine, VerifyEngine):
    """`VerifyEngine` in launches of fixed shapes.

    Rows longer than a block run on their own, up to a prefill chunk at a time.

    With an `acceptor` it accepts drafts on the device, and their logits do not leave it.
    """

    def __init__(self, runner: StepRunner, shapes: RoleShapes, acceptor: PaddedAcceptor | None = None) -> None:
        super().__init__(runner, shapes)
        self._acceptor = acceptor

    def accepts_on_device(self, sampling: bool) -> bool:
        return self._acceptor is not None and (self._acceptor.samples or not sampling)

    def step(
        self, slots: Sequence[PaddedSlot], token_ids: Ints, row_lengths: Ints, used: Ints, logit_rows: Ints
    ) -> VerifyOutput:
        launches, seconds = self._launches(slots, row_lengths, used), 0.0
        logits, features = Pieces(launches), Pieces(launches)
        for launch in launches:
            asked = np.flatnonzero(np.isin(logit_rows, launch.taken))
            outputs, spent = self._launch(launch, token_ids, logit_rows[asked])
            logits.add(outputs["logits"], asked)
            features.add(outputs["features"], launch.taken)
            seconds += spent
        return VerifyOutput(logits.joined(), features.joined(), seconds)

    def step_and_accept(
        self,
        slots: Sequence[PaddedSlot],
        token_ids: Ints,
        row_lengths: Ints,
        used: Ints,
        logit_rows: Ints,
        inputs: AcceptInputs,
    ) -> VerifyOutput:
        assert self._acceptor is not None, "only engines that accept on the device are asked to"
        launches, seconds = self._launches(slots, row_lengths, used), 0.0
        features, count = Pieces(launches), len(inputs.verify_lengths)
        accepted = Accepted(np.zeros(count, np.int64), np.zeros(count, np.int64))
        first = np.cumsum(inputs.verify_lengths + 1) - inputs.verify_lengths - 1  # first line of every row
        for launch in launches:
            asked = np.flatnonzero(np.isin(logit_rows, launch.taken))
            outputs, spent = self._launch(launch, token_ids, logit_rows[asked], LOGITS)
            features.add(outputs["features"], launch.taken)
            seconds += spent
            rows = np.flatnonzero(np.isin(first, asked))
            if len(rows):
                part, spent = self._acceptor.accept(launch.shape, inputs, rows)
                accepted.accepted[rows], accepted.next_ids[rows] = part
                seconds += spent
        return VerifyOutput(np.empty((0, 0), np.float32), features.joined(), seconds, accepted)

    def _preload(self, shape: StepShape) -> None:
        super()._preload(shape)
        if self._acceptor is not None:
            self._acceptor.preload(shape)

    def _launches(self, slots: Sequence[PaddedSlot], row_lengths: Ints, used: Ints) -> list[Launch]:
        self._begin(slots, used)
        launches = list(long_rows(self._shapes, slots, row_lengths, used, keep=0))
        narrow = narrow_rows(self._shapes, slots, row_lengths, used, keep=0)
        return launches if narrow is None else [*launches, narrow]

    def _launch(
        self, launch: Launch, token_ids: Ints, logit_rows: Ints, stay: frozenset[str] = NOTHING
    ) -> tuple[Outputs, float]:
        shape = launch.shape
        asked = np.searchsorted(launch.taken, logit_rows)
        count = 1 if shape.wide and len(asked) <= 1 else shape.tokens
        feeds = verify_indices(launch.rows, shape, self._shapes.capacity)
        feeds["token_ids"] = filled(token_ids[launch.taken], shape.tokens)
        feeds["logit_rows"] = filled(asked, count)
        return self._runner.run(shape, launch.first, feeds, stay)


class PaddedDraftEngine(_StepEngine, DraftEngine):
    """`DraftEngine` in launches of fixed shapes.

    What a prompt leaves is taken in by launches whose drafts nobody reads.

    Draft logits are put out for sampled rows only, and do not leave the device where there is a `keeper`. An engine
    built for `greedy` drafts has none.
    """

    def __init__(
        self, runner: StepRunner, shapes: RoleShapes, greedy: bool = False, keeper: LogitKeeper | None = None
    ) -> None:
        super().__init__(runner, shapes)
        self._greedy, self._keeper = greedy, keeper

    @property
    def samples(self) -> bool:
        return not self._greedy

    def step(
        self,
        slots: Sequence[PaddedSlot],
        features: Floats,
        feature_lengths: Ints,
        used: Ints,
        anchor_ids: Ints,
        temperature: Floats,
        uniforms: Floats,
        next_ids: Ints | None = None,
    ) -> DraftOutput:
        self._begin(slots, used)
        seconds, keep = 0.0, self._shapes.narrow[0].width
        for launch in long_rows(self._shapes, slots, feature_lengths, used, keep):
            rows = len(launch.rows.places)
            zeros = (np.zeros(rows, anchor_ids.dtype), np.zeros(rows, np.float32), np.zeros_like(uniforms[:rows]))
            seconds += self._launch(launch, features, *zeros, DRAFT_LOGITS)[1]
        last = narrow_rows(self._shapes, slots, feature_lengths, used, keep)
        assert last is not None, "every row drafts"
        wanted = not self._greedy and bool(temperature.any())
        stay = NOTHING if wanted and self._keeper is None else DRAFT_LOGITS
        outputs, spent = self._launch(last, features, anchor_ids, temperature, uniforms, stay)
        ids, confidence = (served_rows(outputs[name], last) for name in ("draft_ids", "confidence_logits"))
        logits: DraftLogits = np.empty((*ids.shape, 0), np.float32)
        if wanted and self._keeper is not None:
            self._keeper.keep(last.rows.places)
            logits = PaddedHeldLogits(self._keeper, last.rows.places)
        elif wanted:
            logits = served_rows(outputs["draft_logits"], last)
        return DraftOutput(ids, confidence, logits, seconds + spent)

    def _launch(
        self,
        launch: Launch,
        features: Floats,
        anchor_ids: Ints,
        temperature: Floats,
        uniforms: Floats,
        stay: frozenset[str],
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
        return self._runner.run(shape, launch.first, feeds, stay)
