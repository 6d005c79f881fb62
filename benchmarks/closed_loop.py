"""A closed loop of requests on a runtime, and what it did while all places were filled."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from dspark_calibration import Round
from dspark_engines import DsparkError, GenerationRequest, GenerationResult, Runtime
from dspark_engines.runtime import Failed, Finished, RequestStream, Tokens


class Served(NamedTuple):
    """One request: when tokens arrived (seconds of `time.perf_counter`) and how many, and its result."""

    arrivals: list[tuple[float, int]]
    result: GenerationResult


class Steady(NamedTuple):
    """A run between the moment when all places are filled and the one when nobody waits for a place any more.

    `user_rate` is the tokens/s of one request, from its first token of that time to its last one, all requests
    taken together; `rounds` are those that ended in that time.
    """

    seconds: float
    tokens: int
    user_rate: float
    rounds: list[Round]

    @property
    def rate(self) -> float:
        """Tokens/s of all requests together; reading the prompts of newcomers takes its share."""
        return self.tokens / self.seconds


def drive(runtime: Runtime, requests: Sequence[GenerationRequest], places: int) -> Steady:
    """Serve all requests, `places` at once: they wait in the queue, so that one follows another without a gap.

    Raises `DsparkError` when the runtime fails, or when there were too few requests for a steady state.
    """
    streams = [runtime.submit(request) for request in requests]
    with ThreadPoolExecutor(len(streams)) as readers:  # they sleep until a round ends
        return steady_state(list(readers.map(read, streams)), places)


def read(stream: RequestStream) -> Served:
    """Follow one request to its end."""
    arrivals = []
    for event in stream:
        if isinstance(event, Tokens):
            arrivals.append((event.at, len(event.token_ids)))
        elif isinstance(event, Failed):
            raise event.error
        elif isinstance(event, Finished):
            return Served(arrivals, event.result)
    raise AssertionError("a stream ends with Finished or Failed")


def steady_state(served: Sequence[Served], places: int) -> Steady:
    """From the first token of the last of the first `places` requests to the first place that stays empty."""
    begin = max(request.arrivals[0][0] for request in served[:places])
    ends = sorted(request.arrivals[-1][0] for request in served)
    end = ends[len(served) - places]
    within = [[(at, n) for at, n in request.arrivals if begin <= at <= end] for request in served]
    followed = [arrivals for arrivals in within if len(arrivals) > 1]
    if not followed or end <= begin:
        raise DsparkError("too short a run for a steady state", hint="more --requests-per-place or --max-new-tokens")
    spans = sum(arrivals[-1][0] - arrivals[0][0] for arrivals in followed)
    return Steady(
        seconds=end - begin,
        tokens=sum(n for arrivals in within for at, n in arrivals if at > begin),
        user_rate=sum(n for arrivals in followed for _, n in arrivals[1:]) / spans,
        rounds=[round_ for request in served for round_ in rounds_between(request, begin, end)],
    )


def rounds_between(request: Served, begin: float, end: float) -> list[Round]:
    """Every arrival but the first, which is the prompt's, is the end of a round."""
    pairs = zip(request.arrivals[1:], request.result.rounds, strict=True)
    return [round_ for (at, _), round_ in pairs if begin < at <= end]
