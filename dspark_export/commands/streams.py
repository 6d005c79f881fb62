"""The process's standard streams: what can go wrong with them ends a run in one line, or quietly.

Standard output is UTF-8 on a pipe and in a file, and what the terminal or PYTHONIOENCODING says otherwise; a character
that it cannot hold becomes "?". Standard error never stops a run.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import Any

from dspark_engines.errors import OutputError

STDIN, STDOUT, STDERR = 0, 1, 2
READER_GONE = 141
"""Exit code of a run whose reader has gone: what a shell shows for a program that SIGPIPE ended."""


class ReaderGone(Exception):
    """Whoever read standard output has closed it, as `head` does: there is nobody to write for."""


class _Stream(io.BufferedWriter):
    """A standard stream. One that does not block, as some parents leave them, is waited for.

    Errors are turned here and not below: an interruption inside a raw `write` in Python would have bytes written twice.
    """

    def __init__(self, number: int) -> None:
        super().__init__(io.FileIO(number, "w", closefd=False))

    def write(self, data: Any) -> int:
        """As `io.BufferedWriter`; `failure` says what becomes of an `OSError`."""
        try:
            return super().write(data)
        except BlockingIOError as error:
            select.select((), (self,), ())
            return error.characters_written + self.write(memoryview(data)[error.characters_written :])
        except OSError as error:
            self.failure(error)
            return len(data)

    def flush(self) -> None:
        """As `io.BufferedWriter`; `failure` says what becomes of an `OSError`."""
        try:
            super().flush()
        except BlockingIOError:
            select.select((), (self,), ())
            self.flush()
        except OSError as error:
            self.failure(error)

    def failure(self, error: OSError) -> None:
        """Without an exception, the run goes on."""


class StandardOutput(_Stream):
    """Raises `ReaderGone` and `OutputError`, once: when the interpreter ends it flushes again."""

    failed = False

    def failure(self, error: OSError) -> None:
        """See above."""
        if self.failed:
            return
        self.failed = True
        if error.errno == errno.EPIPE:
            raise ReaderGone from None
        raise OutputError(
            f"standard output cannot be written: {error.strerror}", hint="send it to a file with room, or to a pipe"
        ) from None


def open_streams() -> None:
    """Take over the standard streams of this process, unless a caller has put others in their place."""
    _occupy()
    if sys.stdout is sys.__stdout__:
        encoding, errors = _output_encoding()
        sys.stdout = io.TextIOWrapper(StandardOutput(STDOUT), encoding, errors, line_buffering=os.isatty(STDOUT))
    if sys.stderr is sys.__stderr__:
        encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
        sys.stderr = io.TextIOWrapper(_Stream(STDERR), encoding, "backslashreplace", line_buffering=True)


def close_output() -> None:
    """Write what standard output still holds. Raises `ReaderGone` and `OutputError`."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _occupy() -> None:
    """Put the null device where a stream is closed, or the next file opened would get its number, and others' output.

    Standard output can then be read, not written: that it is closed shows when something is printed.
    """
    for number, mode in ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)  # the lowest that is free, which is this one
            assert opened == number


def _output_encoding() -> tuple[str, str]:
    """Encoding and what to do about characters that it lacks."""
    stream, asked = sys.stdout, os.environ.get("PYTHONIOENCODING", "")
    if stream is None:
        return "utf-8", "replace"
    errors = "replace" if stream.errors in ("strict", "surrogateescape") else stream.errors or "replace"
    if asked.partition(":")[0]:
        return stream.encoding, errors
    plain = codecs.lookup(stream.encoding).name == "ascii"  # the C locale: it says nothing about the terminal
    return ("utf-8" if plain or not stream.isatty() else stream.encoding), errors
