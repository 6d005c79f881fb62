"""The seam between the runtime and whatever executes the graphs.

Arrays are packed: rows of a step lie one after the other, told apart by their lengths. A slot is one
request's caches; it belongs to the engine that made it, and rolling back is passing a smaller `used`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dspark_engines.arrays import Floats, Ints
from dspark_engines.errors import BackendError
from dspark_engines.sampling.contract import Accepted, AcceptInputs, DraftLogits

Slot = Any
"""Opaque to everyone but the engine that made it."""


class VerifyOutput(NamedTuple):
    """logits [K, V] of the asked rows, features [N, L*H]. Valid until the engine's next step.

    `seconds` is the time spent inside the backend. After `step_and_accept`, `accepted` is what it gave and
    logits is [0, V].
    """

    logits: Floats
    features: Floats
    seconds: float = 0.0
    accepted: Accepted | None = None


class DraftOutput(NamedTuple):
    """draft_ids [R, g], confidence_logits [R, g], draft_logits [R, g, V]. Valid until the next step.

    Where all rows are greedy an engine may keep draft_logits to itself, [R, g, 0]: nobody needs them.
    `seconds` is the time spent inside the backend. `scores` [R, g, S]: what the drafter says of each position in place
    of a confidence, for an estimate of it (`DrafterInfo.scores` names the S); None where it has a confidence head.
    """

    draft_ids: Ints
    confidence_logits: Floats
    draft_logits: DraftLogits
    seconds: float = 0.0
    scores: Floats | None = None


class Engine(ABC):
    """What both engines have in common. Not safe for use by several threads at once."""

    @property
    @abstractmethod
    def max_rows(self) -> int:
        """Most rows of one step."""

    @abstractmethod
    def new_slot(self) -> Slot:
        """Empty caches for one request, of the bundle's full context length."""

    def preload(self, rows: int) -> None:
        """Load now whatever steps of up to `rows` rows need; engines may otherwise load at the first one."""
        del rows


class VerifyEngine(Engine):
    """The target with caches: verification, prefill and plain decoding."""

    def accepts_on_device(self, sampling: bool) -> bool:
        """Whether there is a `step_and_accept`, for rows with a temperature too if `sampling`."""
        del sampling
        return False

    @abstractmethod
    def step(
        self,
        slots: Sequence[Slot],
        token_ids: Ints,
        row_lengths: Ints,
        used: Ints,
        logit_rows: Ints,
    ) -> VerifyOutput:
        """Run token_ids [N] of R rows; row r continues slots[r] at position used[r] (at least one token a row).

        Raises `BackendError` when R is more than the engine was built for.
        """

    def step_and_accept(
        self,
        slots: Sequence[Slot],
        token_ids: Ints,
        row_lengths: Ints,
        used: Ints,
        logit_rows: Ints,
        inputs: AcceptInputs,
    ) -> VerifyOutput:
        """The same step, and what accepting `inputs` gives; logits stay where they are. Needs `accepts_on_device`."""
        raise NotImplementedError


class DraftEngine(Engine):
    """The drafter with caches."""

    @property
    def samples(self) -> bool:
        """Whether it drafts at temperatures other than 0."""
        return True

    @abstractmethod
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
        """Take in features [M, L*H] of R rows and draft a block behind anchor_ids [R].

        Row r's anchor stands at position used[r] + feature_lengths[r]; temperature [R], uniforms [R, g]
        in [0, 1). next_ids [M]: the token behind each feature's own, the last of a row being its anchor; drafters that
        read text need them, others ignore them. Raises `BackendError` when R is more than the engine was built for.
        """


class NoDraftEngine(DraftEngine):
    """What a bundle without a drafter has in its place: nobody can draft with it."""

    @property
    def max_rows(self) -> int:
        return 0

    def new_slot(self) -> Slot:
        raise BackendError("this bundle has no drafter", hint="build it with --drafter")

    def step(self, *_: Any, **__: Any) -> DraftOutput:
        raise BackendError("this bundle has no drafter", hint="build it with --drafter")


@dataclass(frozen=True)
class Engines:
    """Both engines of a bundle, opened."""

    verify: VerifyEngine
    draft: DraftEngine
