"""Progress of a build, and a way to stop it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def make_monitor(trt: Any, advance: Callable[[int, int], None]) -> Any:
    """A progress monitor of `trt`: outermost phases are passed on; its `interrupted` holds Ctrl-C until the end.

    An exception must not travel through the library, so it is kept, and the build is told to stop.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the base class comes with the library
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outer: dict[str, int] = {}
            self.interrupted: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.outer[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                if phase_name in self.outer:
                    advance(step + 1, self.outer[phase_name])
            except BaseException as error:
                self.interrupted = error
            return self.interrupted is None

        def phase_finish(self, phase_name: str) -> None:
            self.outer.pop(phase_name, None)

    return Monitor()
