"""calibration/placement.json: how a bundle's engines share the cores of one machine."""

from __future__ import annotations

import json
import warnings
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from dspark_calibration import first_problem
from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import Bundle
from dspark_engines.costs import Fingerprint, take_fingerprint

PLACEMENT = "calibration/placement.json"


class Arrangement(BaseModel):
    """One cohort with all requests, or two with half of them each; `threads` of every engine, which may spin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cohorts: Literal[1, 2]
    threads: PositiveInt
    spinning: bool = False

    @property
    def engines(self) -> EngineOptions:
        """What engines are opened with."""
        return EngineOptions(self.threads, self.spinning)


class Trial(BaseModel):
    """Median seconds, and quartiles, of two rounds of so many requests: one that drafts and a plain one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: PositiveInt
    arrangement: Arrangement
    seconds: PositiveFloat
    low: PositiveFloat
    high: PositiveFloat
    samples: PositiveInt


class Placement(BaseModel):
    """calibration/placement.json (schema version 1).

    `alone` is for a cohort that has the machine to itself. From `pairs_from` requests in flight (0: never) there are
    two cohorts, each on engines of its own opened as `beside` says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    fingerprint: Fingerprint
    alone: Arrangement
    beside: Arrangement | None = None
    pairs_from: NonNegativeInt = 0
    trials: list[Trial] = Field(min_length=1)


def load_placement(bundle: Bundle, backend: str) -> Placement | None:
    """The bundle's placement, or None: without a file, and with a warning when it is unreadable or of elsewhere."""
    path = bundle.file(PLACEMENT)
    if not path.is_file():
        return None
    try:
        placement = Placement.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        reason = first_problem(error)
        warnings.warn(f"{path} is not a placement ({reason}): ignored", RuntimeWarning, stacklevel=2)
        return None
    different = placement.fingerprint.differences(take_fingerprint(bundle, backend, EngineOptions()))
    if different:
        message = f"{path} was measured elsewhere ({', '.join(different)} differ): ignored; run dspark-export profile"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return None
    return placement


def resolve_engines(bundle: Bundle, backend: str, options: EngineOptions) -> EngineOptions:
    """`options`, or where they leave the threads open what the bundle's placement says for this machine."""
    placement = None if options.threads else load_placement(bundle, backend)
    return placement.alone.engines if placement else options


def save_placement(placement: Placement, bundle: Bundle) -> None:
    """Write it into the bundle, in one rename."""
    path = bundle.file(PLACEMENT)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(placement.model_dump_json(indent=1) + "\n", "utf-8")
    partial.replace(path)
