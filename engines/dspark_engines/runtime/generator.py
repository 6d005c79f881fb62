"""One request at a time, to the end: what commands and checks use."""

from __future__ import annotations

from collections.abc import Iterator

from dspark_engines.backends import Engines
from dspark_engines.bundle import Manifest
from dspark_engines.runtime.request import GenerationRequest, check_request
from dspark_engines.runtime.result import GenerationResult
from dspark_engines.runtime.round.draft_health import DraftHealth
from dspark_engines.runtime.round.runner import RoundObserver, RoundRunner
from dspark_engines.runtime.round.state import RequestState
from dspark_engines.scheduler import FixedSpec, get_scheduler


class Generator:
    """Serves one request at a time from opened engines, always verifying the whole block.

    `observer` sees every round; `speculation_failed` says what went wrong with the drafter, if something did.
    """

    def __init__(
        self,
        engines: Engines,
        manifest: Manifest,
        observer: RoundObserver | None = None,
        *,
        health: DraftHealth | None = None,
    ) -> None:
        self._manifest = manifest
        self._runner = RoundRunner(engines, manifest, get_scheduler(FixedSpec()), observer=observer, health=health)

    @property
    def speculation_failed(self) -> str:
        """The drafter's latest failure in one line (an error, or NaN in a block), or nothing."""
        return self._runner.health.last_failure

    def new_result(self) -> GenerationResult:
        """An empty result for `stream` to fill."""
        return self._runner.new_result()

    def run(self, request: GenerationRequest) -> GenerationResult:
        """Generate to the end. Raises `RequestError` before any work when the bundle cannot serve it, and
        `GenerationError` when the target's logits are not finite."""
        result = self.new_result()
        for _ in self.stream(request, result):
            pass
        return result

    def stream(self, request: GenerationRequest, result: GenerationResult) -> Iterator[list[int]]:
        """Yield new token ids as rounds finish; `result` is complete when the iterator is exhausted."""
        check_request(request, self._manifest)
        state = self._runner.start(request, result)
        while not self._runner.finished(state):
            gained = self._advance(state)
            if gained:
                yield gained
        state.clock.stop()

    def _advance(self, state: RequestState) -> list[int]:
        ((_, gained),) = self._runner.advance([state])
        if state.failure is not None:
            raise state.failure
        return gained
