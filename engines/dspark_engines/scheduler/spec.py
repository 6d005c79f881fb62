"""Which scheduler, and with what settings: frozen, checked when made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dspark_engines.errors import DsparkError


@dataclass(frozen=True)
class FixedSpec:
    """Verify the first `length` draft tokens of every row; None: the whole block, whatever its size."""

    name: ClassVar[str] = "fixed"
    length: int | None = None

    def __post_init__(self) -> None:
        if self.length is not None and self.length < 0:
            raise DsparkError(f"a fixed length of {self.length}", hint="0 or more draft tokens; leave it out for all")


@dataclass(frozen=True)
class ThresholdSpec:
    """Verify while the prefix survives with probability `minimum` or more, in (0, 1].

    None: while a token is worth what it costs by the cost table, or 0.5 without one.
    """

    name: ClassVar[str] = "threshold"
    minimum: float | None = None

    def __post_init__(self) -> None:
        if self.minimum is not None and not 0.0 < self.minimum <= 1.0:
            raise DsparkError(f"a survival threshold of {self.minimum}", hint="above 0 and at most 1")


@dataclass(frozen=True)
class Algorithm1Spec:
    """The paper's Algorithm 1: greedy admission with an early stop."""

    name: ClassVar[str] = "algorithm1"


@dataclass(frozen=True)
class AsyncSpec:
    """Budget from the confidences of `delay` steps earlier. 0 would be a search on live confidences: biased."""

    name: ClassVar[str] = "async"
    delay: int = 2

    def __post_init__(self) -> None:
        if self.delay < 1:
            raise DsparkError(f"a scheduling delay of {self.delay} steps", hint="1 or more; live budgets are biased")


SchedulerSpec = FixedSpec | ThresholdSpec | Algorithm1Spec | AsyncSpec
