"""Whether two cohorts overlap draft with verify, and why not when they do not."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

Pipeline = Literal["auto", "on", "off"]


class Cohorts(NamedTuple):
    """Places of every cohort, and the reason for their number."""

    places: list[int]
    reason: str

    @property
    def overlapping(self) -> bool:
        """More than one cohort."""
        return len(self.places) > 1


def plan_cohorts(wanted: Pipeline, places: int, threads: int) -> Cohorts:
    """Two cohorts where drafting one while the other is verified can pay, else one.

    `threads` are those of each engine, 0 meaning all cores: two engines at once then share what one has alone.
    """
    cores = len(os.sched_getaffinity(0))
    if wanted == "off":
        return Cohorts([places], "switched off")
    if places < 2:
        return Cohorts([places], "one request at a time has nothing to overlap with")
    if wanted == "auto" and 2 * (threads or cores) > cores:
        return Cohorts([places], f"each engine uses {threads or cores} of {cores} cores: they are full already")
    return Cohorts([places - places // 2, places // 2], "two cohorts take turns on the engines")
