"""`dspark-export`: parses, builds a spec, calls one function, turns errors into exit codes.

Exit codes: 0 done, 1 a check failed or a bug, 2 a user's error (one line, with a hint; also Ctrl-C and SIGTERM), 141
when the reader of standard output has gone (nothing is said).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from dspark_engines.errors import DsparkError
from dspark_export.commands.console import USER_ERROR, print_error
from dspark_export.commands.signals import heed_interruptions, ignore_interruptions
from dspark_export.commands.streams import READER_GONE, ReaderGone, close_output, open_streams

COMMANDS = (
    "build",
    "export",
    "compile",
    "calibrate",
    "generate",
    "inspect",
    "profile",
    "report",
    "check",
    "eval",
    "convert",
)
OLDER_NAMES = {"verify": "check"}
"""Commands by names that they had; help does not list these."""


class LazyGroup(click.Group):
    """Imports a command's module only when that command is used: a production host lacks the exporter's."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        name = OLDER_NAMES.get(name, name)
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"dspark_export.commands.{name}").command
        return command


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="dspark-export")
@click.pass_context
def cli(context: click.Context) -> int | None:
    """Take a language model and its DSpark drafter from checkpoint to compiled, verified deployment."""
    if context.invoked_subcommand is not None:
        return None
    click.echo(context.get_help(), err=True)
    return USER_ERROR


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    open_streams()
    interruptions = heed_interruptions()
    try:
        result: Any = cli.main(arguments, prog_name="dspark-export", standalone_mode=False)
        close_output()
    except ReaderGone:
        return READER_GONE
    except (DsparkError, click.ClickException) as error:
        print_error(error)
        return USER_ERROR
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except ImportError as error:
        if interruptions.came:  # in the middle of a module written in C, which makes it an error of its own
            return _interrupted()
        print_error(_missing(error))
        return USER_ERROR
    except OSError as error:
        print_error(_refused(error))
        return USER_ERROR
    return result if isinstance(result, int) else 0


def _interrupted() -> int:
    ignore_interruptions()
    print_error(DsparkError("interrupted", hint="nothing was left half-written; run the command again"))
    return USER_ERROR


def _refused(error: OSError) -> DsparkError:
    """Of a file that no reader or writer has answered for: no directory for temporary files, say."""
    what = f"{error.filename}: " if error.filename else ""
    return DsparkError(f"{what}{error.strerror or error}", hint="check the disk's room and permissions")


def _missing(error: ImportError) -> DsparkError:
    """A command that needs an extra which is not installed; anything else is a bug and is raised again."""
    extras = {
        "export": {"onnx", "onnx_ir", "onnxscript", "gguf", "safetensors", "ml_dtypes"},
        "parity": {"torch", "transformers"},
        "report": {"matplotlib"},
        "compare": {"polygraphy"},
    }
    module = (error.name or "").partition(".")[0]
    for extra, modules in extras.items():
        if module in modules:
            return DsparkError(
                f"this command needs the package '{module}', which is not installed",
                hint=f"pip install 'dspark-export[{extra}]'",
            )
    raise error
