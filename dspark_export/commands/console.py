"""What every command shares: progress on standard error, results on standard output, errors in one line."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dspark_engines.errors import DsparkError

PIPE_WIDTH = 180
USER_ERROR = 2
"""Exit code of everything that a user can cause."""


class ProgressReporter:
    """Shows each step as a bar; steps without units pulse until the next one begins."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._current: Any = None

    def step(self, title: str) -> Any:
        """Begin a step; see `dspark_engines.progress`."""
        self.finish()
        task = self._current = self._progress.add_task(title, total=None)

        def advance(done: int, total: int) -> None:
            self._progress.update(task, completed=done, total=total)

        return advance

    def finish(self) -> None:
        """Mark the current step as done."""
        if self._current is not None:
            task = self._progress.tasks[self._current]
            total = task.total or 1
            self._progress.update(self._current, completed=total, total=total)


class _Bars(Progress):
    def stop(self) -> None:
        self.live.stop()  # the library adds a line's end on a pipe even after a failure


@contextmanager
def reporting(*, remaining: bool = False) -> Iterator[ProgressReporter]:
    """Progress bars on standard error; on a pipe only their final state is written, and nothing on failure.

    `remaining` shows the time left instead of the time taken, for work whose units take equally long.
    """
    clock = TimeRemainingColumn(elapsed_when_finished=True) if remaining else TimeElapsedColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), clock)
    console = Console(stderr=True)
    with _Bars(*columns, console=console, redirect_stdout=False) as progress:  # results are not for the bars' stream
        reporter = ProgressReporter(progress)
        try:
            yield reporter
        except BaseException:
            progress.live.transient = True  # the error's line shall stand alone
            raise
        reporter.finish()
    if not console.is_interactive:
        console.print()  # ends the last bar's line


def table_console() -> Console:
    """Standard output for tables: the terminal's width, or wide enough for all columns on a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def print_text(text: str, end: str = "\n") -> None:
    """Text on standard output, at once and as it is: `click.echo` would choose another encoding than was asked for."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def print_json(data: Mapping[str, Any]) -> None:
    """One JSON object on the last line of standard output.

    What is no number is null, since JSON has no NaN; what the output's encoding cannot hold is escaped.
    """
    data = _finite(data)
    text = json.dumps(data, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(data)
    print_text(text)


def _finite(data: Any) -> Any:
    """JSON data with null for NaN and infinities."""
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def print_error(error: DsparkError | click.ClickException) -> None:
    """`error: …` and, where there is one, `hint: …` on standard error."""
    if isinstance(error, DsparkError):
        message, hint = str(error), error.hint
    else:
        message, hint = error.format_message(), _usage_hint(error)
    click.echo(f"error: {_one_line(message)}", err=True)
    if hint:
        click.echo(f"hint: {_one_line(hint)}", err=True)


def show_warnings_plainly() -> None:
    """From here on a warning of this process is one line on standard error, without the code that gave it."""
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *details: Any, **options: Any) -> None:
    click.echo(f"warning: {_one_line(str(message))}", err=True)


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"see: {'dspark-export' if context is None else context.command_path} --help"


def _one_line(text: str) -> str:
    return " ".join(text.split())
