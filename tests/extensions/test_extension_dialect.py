"""Extension by a dialect: one new file, registered, and `build` takes it; the product is not edited for that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_engines import GenerationRequest, Generator, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import MarkovSpec, open_drafter, open_target
from dspark_export.checkpoints.dialects import (
    drafter_dialects,
    register_drafter_dialect,
    register_target_dialect,
    registry,
    target_dialect,
    target_dialects,
)
from dspark_export.checkpoints.dialects.deepspec import DeepSpecDialect
from tests.extensions import npz_dialect
from tests.extensions.npz_dialect import NpzDialect
from tests.support import tiny
from tests.support.command_line import run

ODD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing drafted": ({"anchor": "given", "block_size": 1}, "a block of 1 whose anchor predicts nothing drafts noth"),
    "a state": ({"anchor": "given", "markov": MarkovSpec("rnn", 8)}, "kind rnn behind an anchor that predicts nothing"),
}
PLACE = "tests.extensions.npz_dialect:NpzDialect"


@pytest.fixture
def registered() -> Iterator[None]:
    """For one test."""
    known = dict(registry.DRAFTERS)
    register_drafter_dialect("npz", PLACE)
    yield
    registry.DRAFTERS.clear()
    registry.DRAFTERS.update(known)


@pytest.fixture
def converted(tiny_pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """The tiny drafter in the toy dialect."""
    folder = tmp_path / "npz"
    folder.mkdir()
    NpzDialect().write(open_drafter(tiny_pair[1], open_target(tiny_pair[0]).spec), folder)
    return folder


def test_extension_by_a_dialect_builds_and_generates(
    tiny_pair: tuple[Path, Path],
    tiny_bundle: Path,
    converted: Path,
    tmp_path: Path,
    registered: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    limits = ("--context-length", "96", "--prefill-chunk", "16", "--slots", "1")
    output = tmp_path / "bundle"
    built = run(capsys, "build", "--target", tiny_pair[0], "--drafter", converted, "--output", output, *limits)
    assert built.code == 0, built.err
    request = GenerationRequest([5, 6, 7, 8], 24)
    results = []
    for path in (output, tiny_bundle):
        bundle = open_bundle(path)
        with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
            results.append(Generator(engines, bundle.manifest).run(request))
    assert results[0].token_ids == results[1].token_ids
    assert results[0].rounds == results[1].rounds
    assert open_bundle(output).manifest.drafter.files[0].path == "drafter.npz"


def test_without_the_extension_the_directory_is_refused(
    tiny_pair: tuple[Path, Path], converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = run(capsys, "build", "--target", tiny_pair[0], "--drafter", converted, "--output", tmp_path / "bundle")
    assert (refused.code, (tmp_path / "bundle").exists()) == (2, False)


def test_an_extension_is_asked_first_and_once(registered: None) -> None:
    register_drafter_dialect("npz", PLACE)
    known = drafter_dialects()
    assert (known[0], known.count("npz"), known[-1]) == ("npz", 1, "GGUF")
    assert target_dialects() == ("Hugging Face", "GGUF")


def test_target_dialects_are_registered_alike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "TARGETS", dict(registry.TARGETS))
    register_target_dialect("everything", "tests.extensions.npz_dialect:NpzDialect")
    (tmp_path / "drafter.npz").write_bytes(b"")
    assert isinstance(target_dialect(tmp_path), NpzDialect)


@pytest.mark.parametrize("kind", ["none", "vanilla", "gated", "rnn"])
@pytest.mark.parametrize("confidence", [True, False])
def test_deepspec_is_written_as_it_is_read(tmp_path: Path, kind: str, confidence: bool) -> None:
    target = open_target(tiny.write_target(tmp_path / "target")).spec
    spec = tiny.drafter_spec(kind, confidence=confidence)
    first = open_drafter(tiny.write_drafter(tmp_path / "first", spec), target)
    again = tmp_path / "again"
    again.mkdir()
    DeepSpecDialect().write(first, again)
    second = open_drafter(again, target)
    assert second.spec == first.spec
    assert second.weights.keys() == first.weights.keys()
    for name in first.weights:
        np.testing.assert_array_equal(second.weights[name], first.weights[name], err_msg=name)


def test_layouts_that_are_only_read_say_so(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> None:
    with pytest.raises(CheckpointError, match="nothing is written as Hugging Face"):
        target_dialect(tiny_pair[0]).write(open_target(tiny_pair[0]), tmp_path)


@pytest.mark.parametrize("what", ODD)
def test_a_dialect_of_drafters_that_dspark_cannot_follow(
    what: str, registered: None, converted: Path, tiny_pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, (changes, said) = NpzDialect._spec, ODD[what]
    monkeypatch.setattr(NpzDialect, "_spec", lambda *given: replace(read(*given), **changes))
    monkeypatch.setattr(npz_dialect, "check_tensors", lambda *_: None)
    with pytest.raises(CheckpointError, match=said):
        open_drafter(converted, open_target(tiny_pair[0]).spec)
