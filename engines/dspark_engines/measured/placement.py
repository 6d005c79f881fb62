"""calibration/placement.json: how a bundle's engines share the cores of one machine."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import Bundle, save_model
from dspark_engines.measured.file import Measured, load_measured
from dspark_engines.measured.fingerprint import take_fingerprint

PLACEMENT = "calibration/placement.json"


class CoreLayout(BaseModel):
    """One cohort with all requests, or two with half of them each; `threads` of every engine, which may spin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cohorts: Literal[1, 2]
    threads: PositiveInt
    spinning: bool = False

    @property
    def engines(self) -> EngineOptions:
        """What engines are opened with."""
        return EngineOptions(self.threads, self.spinning)


class LayoutTiming(BaseModel):
    """Median seconds, and quartiles, of two rounds of so many requests: one that drafts and a plain one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: PositiveInt
    layout: CoreLayout = Field(validation_alias=AliasChoices("layout", "arrangement"))
    seconds: PositiveFloat
    low: PositiveFloat
    high: PositiveFloat
    samples: PositiveInt


class MeasuredLayout(Measured):
    """calibration/placement.json (schema version 1); older versions have written other keys.

    `exclusive` is for a cohort that has the machine to itself. From `pairs_from` requests in flight (0: never) there
    are two cohorts, each on engines of its own opened as `shared` says.
    """

    exclusive: CoreLayout = Field(validation_alias=AliasChoices("exclusive", "alone"))
    shared: CoreLayout | None = Field(default=None, validation_alias=AliasChoices("shared", "beside"))
    pairs_from: NonNegativeInt = 0
    timings: list[LayoutTiming] = Field(min_length=1, validation_alias=AliasChoices("timings", "trials"))


def load_placement(bundle: Bundle, backend: str) -> MeasuredLayout | None:
    """The bundle's placement, or None: without a file, and with a warning when it is unreadable or of elsewhere."""
    path = bundle.file(PLACEMENT)
    if not path.is_file():
        return None
    return load_measured(path, MeasuredLayout, "placement", take_fingerprint(bundle, backend, EngineOptions()))


def resolve_engines(bundle: Bundle, backend: str, options: EngineOptions) -> EngineOptions:
    """`options`, or where they leave the threads open what the bundle's placement says for this machine."""
    placement = None if options.threads else load_placement(bundle, backend)
    return placement.exclusive.engines if placement else options


def save_placement(placement: MeasuredLayout, bundle: Bundle) -> None:
    """Write it into the bundle, in one rename."""
    save_model(placement, bundle.file(PLACEMENT))
