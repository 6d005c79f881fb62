"""The real command line as a shell runs it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.support.command_line import Outcome

ROOT = Path(__file__).resolve().parents[2]


def environment(**variables: str) -> dict[str, str]:
    """This process's, with the working tree's packages and without what decides about encodings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG"))}
    packages = (ROOT, ROOT / "engines", ROOT / "plugins", ROOT / "calibration")
    return kept | {"PYTHONPATH": os.pathsep.join(map(str, packages))} | variables


def shell(command: str, bundle: Path, batch: Path, **variables: str) -> Outcome:
    """`dspark-export COMMAND`, in which $BUNDLE and $BATCH stand for paths; the code of the first of a pipe."""
    line = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'cli.py'))} {command}; exit ${{PIPESTATUS[0]}}"
    values = environment(BUNDLE=str(bundle), BATCH=str(batch), **variables)
    done = subprocess.run(["bash", "-c", line], env=values, capture_output=True, timeout=60, check=False)
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
