"""Whether requests advance as two cohorts at once, and why not when they do not."""

from __future__ import annotations

from typing import Literal, NamedTuple

from dspark_engines.backends import EngineOptions
from dspark_engines.machine import usable_cores
from dspark_engines.measured import MeasuredLayout

Pipeline = Literal["auto", "on", "off"]


class Cohorts(NamedTuple):
    """Slots of every cohort, and the reason for their number.

    `exclusive` and `shared`: how engines are opened for a cohort that has the machine to itself, and for each of two;
    None where they take turns on the same. `pairs_from`: requests in flight from which both take some.
    """

    slots: list[int]
    reason: str
    exclusive: EngineOptions
    shared: EngineOptions | None = None
    pairs_from: int = 2

    @property
    def overlapping(self) -> bool:
        """More than one cohort."""
        return len(self.slots) > 1


def plan_cohorts(
    wanted: Pipeline, slots: int, options: EngineOptions, *, own_engines: bool, placement: MeasuredLayout | None = None
) -> Cohorts:
    """Two cohorts where that pays, else one.

    `own_engines`: each can have engines of its own on half the cores, instead of turns on the same. What
    `placement` measured decides, unless `options` give a number of threads: two cohorts then, if the cores are
    enough for both.
    """
    measured = None if options.threads else placement
    exclusive = measured.exclusive.engines if measured else options
    if wanted == "off":
        return Cohorts([slots], "switched off", exclusive)
    if slots < 2:
        return Cohorts([slots], "one request at a time has nothing to overlap with", exclusive)
    cores = usable_cores()
    pairs_from, shared, reason = 2, None, "two cohorts take turns on the engines"
    if own_engines:
        half = EngineOptions(options.threads or max(1, cores // 2), options.spinning)
        shared, reason = half, f"two cohorts, each on engines of its own with {half.threads} threads"
    if wanted == "auto" and measured is not None:
        if measured.shared is None or not 0 < measured.pairs_from <= slots:
            least = f"fewer than {measured.pairs_from} requests" if measured.pairs_from else "any number of requests"
            return Cohorts([slots], f"measured here: two cohorts do not pay for {least}", exclusive)
        pairs_from, shared = measured.pairs_from, measured.shared.engines
        reason = f"measured here: two cohorts pay from {pairs_from} requests"
    elif wanted == "auto" and 2 * (options.threads or cores) > cores:
        return Cohorts(
            [slots], f"each engine uses {options.threads or cores} of {cores} cores: they are full", exclusive
        )
    return Cohorts([slots - slots // 2, slots // 2], reason, exclusive, shared, pairs_from)
