"""Running the command line in-process, and a place where a test may break things."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from safetensors.numpy import load_file, save_file

from dspark_engines.bundle.interruptions import HELD
from dspark_export.commands.main import main

PROMPT = ("--prompt", "hello", "--raw", "--max-new-tokens", "4")


class Outcome(NamedTuple):
    """What a run showed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of standard output."""
        return json.loads(self.out.splitlines()[-1])


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Outcome:
    """`dspark-export ARGUMENTS`."""
    capsys.readouterr()
    handlers = {number: signal.getsignal(number) for number in HELD}  # the command line takes them over
    try:
        code = main([str(argument) for argument in arguments])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Outcome(code, *capsys.readouterr())


def generate(capsys: pytest.CaptureFixture[str], bundle: Path, *options: str) -> Any:
    """The JSON report of a short generation, which speculates unless the options say otherwise."""
    said = any("speculation" in option for option in options)
    always = () if said else ("--speculation=on",)
    outcome = run(capsys, "generate", bundle, "--max-new-tokens=12", "--json", *always, *options)
    assert outcome.code == 0
    return outcome.json


@dataclass(frozen=True)
class Place:
    """Copies of the tiny pair and bundle under `root`, made when asked for."""

    root: Path
    pair: tuple[Path, Path]
    tiny_bundle: Path
    patch: pytest.MonkeyPatch

    @cached_property
    def target(self) -> Path:
        """A Hugging Face target."""
        return Path(shutil.copytree(self.pair[0], self.root / "target"))

    @cached_property
    def drafter(self) -> Path:
        """A vanilla drafter for it."""
        return Path(shutil.copytree(self.pair[1], self.root / "drafter"))

    @cached_property
    def bundle(self) -> Path:
        """The bundle of both."""
        return Path(shutil.copytree(self.tiny_bundle, self.root / "bundle"))

    def build(self, **options: Any) -> list[str]:
        """Arguments that build the pair into root/out; None drops an option."""
        options = {"output": self.root / "out", "context_length": 96, "slots": 1} | options
        for name in {"target", "drafter"} - options.keys():
            options[name] = getattr(self, name)
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items() if value is not None]
        return ["build", *(flag.removesuffix("=True") for flag in flags)]

    def generate(self, *options: str) -> list[str]:
        """Arguments that generate from the bundle."""
        return ["generate", str(self.bundle), *options]

    def files(self) -> dict[str, int]:
        """Everything under root, with sizes."""
        return {str(path): path.lstat().st_size if path.is_file() else -1 for path in sorted(self.root.rglob("*"))}


class Case(NamedTuple):
    """Something bad: `prepare` makes it and returns the arguments; the error's line must hold `fragment`."""

    prepare: Callable[[Place], list[str]]
    fragment: str


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file in place."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def edit_tensors(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the tensors of model.safetensors in place."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def cut(path: Path, size: int) -> None:
    """Keep the first `size` bytes; a negative one drops so many from the end."""
    path.write_bytes(path.read_bytes()[:size])


def flip(path: Path, offset: int) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
