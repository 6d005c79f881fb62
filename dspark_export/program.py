"""The process that `dspark-export` and `python cli.py` start."""

from __future__ import annotations

import signal


def run() -> int:
    """Run the command line; returns the exit code. While modules are loaded, Ctrl-C just ends the process."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from dspark_export.commands.console import show_warnings_plainly
    from dspark_export.commands.main import main

    show_warnings_plainly()
    return main()
