"""A request's seconds: prefill ends at the first token, engines count after it, the rest is other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dspark_engines.runtime.result import Seconds
from dspark_engines.runtime.round.clock import RequestClock


def ticking(*moments: float) -> Callable[[], float]:
    ticks: Iterator[float] = iter(moments)
    return lambda: next(ticks)


def test_what_came_before_the_first_token_is_prefill() -> None:
    seconds = Seconds()
    clock = RequestClock(seconds, ticking(10.0, 12.0, 20.0))
    clock.verified(1.5)
    clock.gained()
    clock.drafted(2.0)
    clock.verified(3.0)
    clock.gained()
    clock.stop()
    assert seconds == Seconds(prefill=2.0, draft=2.0, verify=3.0, other=3.0)
    assert seconds.decode == 8.0


def test_a_request_that_gained_nothing_was_all_prefill() -> None:
    seconds = Seconds()
    clock = RequestClock(seconds, ticking(10.0, 13.0))
    clock.verified(1.0)
    clock.stop()
    assert seconds == Seconds(prefill=3.0)


def test_engines_that_measured_more_than_passed_leave_nothing_over() -> None:
    seconds = Seconds()
    clock = RequestClock(seconds, ticking(0.0, 1.0, 2.0))
    clock.gained()
    clock.verified(1.25)
    clock.stop()
    assert (seconds.verify, seconds.other) == (1.25, 0.0)
