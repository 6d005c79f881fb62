"""From a benchmark's command to its exit code, as the product's own commands do it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dspark_engines import DsparkError
from dspark_export.commands.console import USER_ERROR, print_error


def exit_code(command: click.Command, arguments: Sequence[str] | None) -> int:
    """Run `command`; a user's errors become a line and a hint."""
    try:
        command.main(arguments, standalone_mode=False)
    except (DsparkError, click.ClickException) as error:
        print_error(error)
        return USER_ERROR
    return 0
