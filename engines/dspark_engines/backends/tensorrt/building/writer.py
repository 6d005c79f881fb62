"""Engines go to the disk as they are made: a copy in memory would cost what the weights do."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self


class EngineFile:
    """A stream that the builder writes to; an error of the disk is kept in `error` and ends the build."""

    def __init__(self, trt: Any, path: Path) -> None:
        self._file = path.open("wb")
        self.error: OSError | None = None
        self.stream = self._make(trt)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _make(self, trt: Any) -> Any:
        owner = self

        class Stream(trt.IStreamWriter):  # type: ignore[misc]  # the base class comes with the library
            def __init__(self) -> None:
                trt.IStreamWriter.__init__(self)

            def write(self, data: bytes) -> int:
                try:
                    return owner._file.write(data)
                except OSError as error:
                    owner.error = error
                    return 0

        return Stream()
