"""Outputs, bundles and prompts that must be refused, each with what the error's line says."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dspark_engines import GenerationRequest, SamplingParams
from dspark_engines.bundle import open as opening
from dspark_export.graphs import save
from tests.support.command_line import PROMPT, Case, Place, cut, edit_json, flip

MANIFEST = "manifest.json"
ENGINE = ("backends", 0, "engines", 0)


def occupied(place: Place) -> list[str]:
    (place.root / "out").mkdir()
    (place.root / "out" / "thesis.txt").write_text("years of work")
    return place.build(overwrite=True)


def below_a_file(place: Place) -> list[str]:
    (place.root / "file").write_text("")
    return place.build(output=place.root / "file" / "out")


def not_writable(place: Place) -> list[str]:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (place.root / "locked").mkdir(mode=0o500)
    return place.build(output=place.root / "locked" / "out")


def linked_to_itself(place: Place) -> list[str]:
    (place.root / "out").symlink_to(place.root / "out")
    return place.build()


def around_the_target(place: Place) -> list[str]:
    """Replacing the bundle would remove the checkpoint."""
    target = Path(shutil.copytree(place.target, place.bundle / "target"))
    return place.build(target=target, output=place.bundle, overwrite=True)


def almost_full(place: Place) -> list[str]:
    place.patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=500_000))
    return place.build()


def full_at(module: Any, name: str, call: int) -> Callable[[Place], list[str]]:
    """The disk fills up in the `call`-th call of `module.name`."""

    def prepare(place: Place) -> list[str]:
        original, calls = getattr(module, name), iter(range(1, 99))

        def write(*arguments: Any, **options: Any) -> Any:
            if next(calls) == call:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*arguments, **options)

        place.patch.setattr(module, name, write)
        return place.build(output=place.root / "deep" / "out")

    return prepare


def damaged(damage: Callable[[Path], Any], fragment: str, command: str = "generate") -> Case:
    """A bundle after `damage`, given to `command`."""

    def prepare(place: Place) -> list[str]:
        damage(place.bundle)
        return place.generate(*PROMPT) if command == "generate" else [command, str(place.bundle)]

    return Case(prepare, fragment)


def changed_weights(place: Place) -> list[str]:
    """Too large to be hashed on opening: `check` reads every byte."""
    place.patch.setattr(opening, "CHEAP_BYTES", 1000)
    flip(place.bundle / "onnx" / "target.onnx.data", 5000)
    return ["check", str(place.bundle)]


def lead_out(path: str, *keys: str | int) -> Callable[[Path], None]:
    """A manifest with another path under these keys."""

    def change(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = path

    return lambda bundle: edit_json(bundle / MANIFEST, change)


def linked(bundle: Path) -> None:
    """One file of the bundle is a link to a faithful copy outside."""
    file = bundle / "onnx" / "drafter.onnx"
    file.rename(bundle.parent / "elsewhere.onnx")
    file.symlink_to(bundle.parent / "elsewhere.onnx")


def no_engines(bundle: Path) -> None:
    edit_json(bundle / MANIFEST, lambda manifest: manifest.update(backends=[]))


def request(*options: str, fragment: str, stdin: bytes | None = None) -> Case:
    """A request to a good bundle."""

    def prepare(place: Place) -> list[str]:
        if stdin is not None:
            place.patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        return place.generate(*(option.format(root=place.root) for option in options))

    return Case(prepare, fragment)


OUTPUTS = {
    "output: exists": Case(lambda p: p.build(output=p.bundle), "/bundle: already exists"),
    "output: no bundle to replace": Case(occupied, "/out: exists and is not a bundle"),
    "output: is the target": Case(lambda p: p.build(output=p.target, overwrite=True), "/target: exists and is not a"),
    "output: below a file": Case(below_a_file, "/file: is not a directory"),
    "output: not writable": Case(not_writable, "/locked: not writable"),
    "output: name too long": Case(lambda p: p.build(output=p.root / ("x" * 300)), "File name too long"),
    "output: a link to itself": Case(linked_to_itself, "/out: cannot be written: Too many levels of symbolic links"),
    "output: around the checkpoint": Case(around_the_target, "/target, which it would replace"),
    "output: no name": Case(lambda p: p.build(output=""), "Invalid value for '--output': the name is empty"),
    "output: disk almost full": Case(almost_full, "0.00 GB free on this disk"),
    "output: disk full at the target": Case(full_at(save.external_data, "convert_tensors_to_external", 1), "disk is f"),
    "output: disk full at the drafter": Case(full_at(save.onnx, "save", 2), "/deep/out: the disk is full"),
    "output: disk full at the engines": Case(full_at(save.onnx, "save", 3), "/deep/out: the disk is full"),
    "output: disk full at the manifest": Case(full_at(os, "replace", 1), "/deep/out: the disk is full"),
    "context: beyond the target's": Case(
        lambda p: p.build(context_length=257), "--context-length 257 is more than the"
    ),
}

BUNDLES = {
    "bundle: nothing there": Case(lambda p: ["inspect", str(p.root / "no")], "/no: not a bundle (no manifest.json)"),
    "bundle: is a file": Case(lambda p: ["check", str(p.bundle / MANIFEST)], "manifest.json: not a bundle"),
    "bundle: changed byte": damaged(lambda b: flip(b / "onnx/drafter.onnx", 99), "drafter.onnx: content differs from"),
    "bundle: changed byte, verify": damaged(
        lambda b: flip(b / "tokenizer/chat_template.jinja", 3), "chat_template.jinja: content differs", "check"
    ),
    "bundle: changed byte of large weights": Case(changed_weights, "onnx/target.onnx.data: content differs from the m"),
    "bundle: missing file": damaged(lambda b: (b / "onnx/drafter.onnx.data").unlink(), "drafter.onnx.data: missing"),
    "bundle: missing file, compile": damaged(lambda b: (b / "onnx/target.onnx").unlink(), "t.onnx: missing", "compile"),
    "bundle: file cut": damaged(lambda b: cut(b / "onnx/target.onnx.data", -1), "target.onnx.data: has "),
    "bundle: newer schema": damaged(
        lambda b: edit_json(b / MANIFEST, lambda m: m.update(schema_version=9)), "schema version 9 is newer", "inspect"
    ),
    "bundle: manifest cut": damaged(lambda b: cut(b / MANIFEST, 99), "manifest.json: not JSON: ", "inspect"),
    "bundle: a file above it": damaged(
        lead_out("onnx/../../x", "files", 0, "path"), "files.0.path: must name a file inside the fo"
    ),
    "bundle: a file from the root": damaged(lead_out("/etc/passwd", "files", 0, "path"), "(found '/etc/passwd')"),
    "bundle: a file with backslashes": damaged(
        lead_out("..\\x", "files", 0, "path"), "files.0.path: must name a file inside"
    ),
    "bundle: an engine above it": damaged(
        lead_out("../verify.onnx", *ENGINE, "path"), "backends.0.engines.0.path: must name"
    ),
    "bundle: weights above it": damaged(
        lead_out("..", *ENGINE, "weights"), "backends.0.engines.0.weights: must name a file"
    ),
    "bundle: a graph above it": damaged(
        lead_out("../t.onnx", "graphs", "target", "path"), "graphs.target.path: must name", "check"
    ),
    "bundle: a link out of it": damaged(linked, "onnx/drafter.onnx: a link that leads out of the bundle"),
    "bundle: no engines": damaged(no_engines, "bundle: no engines of backend 'onnxruntime'"),
    "bundle: no engines, check": damaged(no_engines, "bundle: no engines of backend 'onnxruntime'", "check"),
    "bundle: engines there already": Case(lambda p: ["compile", str(p.bundle)], "already holds engines of backend"),
}

REQUESTS = {
    "prompt: beyond the context": request(
        "--raw", "--prompt", "x" * 96, fragment="96 tokens, the bundle's context hol"
    ),
    "prompt: empty": request("--prompt", "", fragment="the prompt is empty"),
    "prompt: white space": request("--prompt", " \n\t", "--raw", fragment="the prompt is empty"),
    "prompt: nothing on standard input": request(stdin=b"", fragment="the prompt is empty"),
    "prompt: bytes on standard input": request(stdin=b"caf\xe9", fragment="standard input: not UTF-8 text: byte 0xe9"),
    "prompt: bytes as an argument": request("--prompt", "caf\udce9", fragment="--prompt: not UTF-8 text: byte 0xe9"),
    "prompt: UTF-16 on standard input": request(
        stdin="hello".encode("utf-16"), fragment="standard input: not UTF-8 text: it is marked as UTF-16"
    ),
    "trace: a folder": request("--prompt=a", "--trace={root}", fragment="cannot be written: Is a directory"),
    "trace: below a file": request(
        "--prompt=a", "--trace={root}/bundle/manifest.json/t", fragment="manifest.json: is not a directory"
    ),
    "prompt: twice": request("--prompt", "a", "--prompt-file", "b", fragment="both --prompt and --prompt-file are"),
    "prompt: no file": request("--prompt-file", "{root}/no.txt", fragment="/no.txt: not readable: No such file"),
    "prompt: file is a folder": request("--prompt-file", "{root}", fragment="not readable: Is a directory"),
}

MALFORMED: dict[str, Callable[[], GenerationRequest]] = {
    "no tokens": lambda: GenerationRequest([], 4),
    "no new tokens": lambda: GenerationRequest([5], 0),
    "new tokens below zero": lambda: GenerationRequest([5], -3),
    "beyond the context": lambda: GenerationRequest([5] * 96, 4),
    "far beyond the context": lambda: GenerationRequest([5] * 10_000, 4),
    "outside the vocabulary": lambda: GenerationRequest([5, 128], 4),
    "far outside the vocabulary": lambda: GenerationRequest([5, 2**40], 4),
    "a token below zero": lambda: GenerationRequest([-1], 4),
    "temperature below zero": lambda: GenerationRequest([5], 4, sampling=SamplingParams(-1.0)),
    "temperature of NaN": lambda: GenerationRequest([5], 4, sampling=SamplingParams(float("nan"))),
    "temperature without end": lambda: GenerationRequest([5], 4, sampling=SamplingParams(float("inf"))),
    "top_k below zero": lambda: GenerationRequest([5], 4, sampling=SamplingParams(1.0, top_k=-1)),
    "top_p of nothing": lambda: GenerationRequest([5], 4, sampling=SamplingParams(1.0, top_p=0.0)),
    "top_p of NaN": lambda: GenerationRequest([5], 4, sampling=SamplingParams(1.0, top_p=float("nan"))),
    "min_p of all": lambda: GenerationRequest([5], 4, sampling=SamplingParams(1.0, min_p=1.0)),
    "seed below zero": lambda: GenerationRequest([5], 4, sampling=SamplingParams(1.0, seed=-1)),
    "seed too large": lambda: GenerationRequest([5], 4, sampling=SamplingParams(1.0, seed=2**64)),
}
"""Requests to a tiny bundle of 96 positions and 128 tokens; making or submitting one raises `RequestError`."""

LINES: dict[str, tuple[object, str]] = {
    "no JSON": ("{not json", "not JSON"),
    "cut JSON": ('{"prompt": "hel', "not JSON"),
    "nested too deeply": ('{"prompt": ' + "[" * 20_000, "nested too deeply"),
    "half a surrogate pair": ('{"prompt": "\\ud83d"}', "half of a surrogate pair"),
    "a list": ("[1, 2]", "dictionary"),
    "a number": ("7", "dictionary"),
    "null": ("null", "dictionary"),
    "no prompt": ({"id": 1}, "prompt"),
    "empty prompt": ({"prompt": ""}, "empty"),
    "blank prompt": ({"prompt": " "}, "empty"),
    "prompt of another type": ({"prompt": ["x"]}, "prompt"),
    "prompt beyond the context": ({"prompt": "x" * 200}, "tokens"),
    "no new tokens": ({"prompt": "x", "max_new_tokens": 0}, "max_new_tokens"),
    "temperature below zero": ({"prompt": "x", "temperature": -1}, "temperature"),
    "temperature of NaN": ('{"prompt": "x", "temperature": NaN}', "temperature"),
    "temperature beyond float32": ({"prompt": "x", "temperature": 1e39}, "temperature"),
    "top_p of nothing": ({"prompt": "x", "top_p": 0}, "top_p"),
    "top_k below zero": ({"prompt": "x", "temperature": 1, "top_k": -1}, "top_k"),
    "min_p of all": ({"prompt": "x", "min_p": 1}, "min_p"),
    "seed below zero": ({"prompt": "x", "seed": -1}, "seed"),
    "unknown key": ({"prompt": "x", "surprise": 1}, "surprise"),
}
"""Lines of a batch file for that bundle, and what the error in their place says."""
