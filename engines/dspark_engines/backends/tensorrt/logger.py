"""The library's messages, kept instead of printed."""

from __future__ import annotations

from typing import Any


def make_logger(trt: Any) -> Any:
    """A logger of `trt` whose list `errors` holds the errors so far."""

    class Messages(trt.ILogger):  # type: ignore[misc]  # the base class comes with the library
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:  # the most severe is the lowest
                self.errors.append(msg)

    return Messages()
