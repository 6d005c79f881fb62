"""Bundles: what the manifest says is what is opened, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dspark_engines.bundle import MANIFEST, Manifest, check_hash, open_bundle
from dspark_engines.bundle import open as opening
from dspark_engines.errors import BundleError


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = bundle / MANIFEST
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_manifest_there_and_back(tiny_bundle: Path) -> None:
    opened = open_bundle(tiny_bundle)
    manifest = opened.manifest
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert json.loads((tiny_bundle / MANIFEST).read_text()) == manifest.model_dump(mode="json")
    found = {path.relative_to(tiny_bundle).as_posix() for path in tiny_bundle.rglob("*") if path.is_file()}
    assert {record.path for record in manifest.files} == found - {MANIFEST}
    assert all(record.bytes for record in manifest.files)
    assert opened.file("onnx/target.onnx").is_file()


def test_manifest_names_what_it_was_made_from(tiny_bundle: Path, tiny_pair: tuple[Path, Path]) -> None:
    manifest = open_bundle(tiny_bundle).manifest
    for folder, info in zip(tiny_pair, (manifest.target, manifest.drafter), strict=True):
        assert {record.path for record in info.files} == {path.name for path in folder.iterdir()}
        assert all(record.bytes == (folder / record.path).stat().st_size for record in info.files)
    by_path = {record.path: record for record in manifest.files}
    for engine in manifest.backends[0].engines:
        assert by_path[engine.built_from.path] == engine.built_from
        assert engine.path in by_path


def flip(path: Path, offset: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda b: (b / "onnx/target.onnx").unlink(), "onnx/target.onnx: missing from the bundle"),
    "folder for a file": (lambda b: ((b / "onnx/target.onnx").unlink(), (b / "onnx/target.onnx").mkdir()), "missing"),
    "shorter": (lambda b: os.truncate(b / "onnx/drafter.onnx.data", 8), "onnx/drafter.onnx.data: has 8 bytes, the"),
    "changed byte": (lambda b: flip(b / "tokenizer/tokenizer.json"), "tokenizer.json: content differs from the mani"),
    "newer schema": (
        lambda b: edit_manifest(b, lambda m: m.update(schema_version=2, surprise=1)),
        "version 2 is newer",
    ),
    "older schema": (lambda b: edit_manifest(b, lambda m: m.update(schema_version=0)), "schema_version: Input should"),
    "no schema": (lambda b: edit_manifest(b, lambda m: m.pop("schema_version")), "no schema_version"),
    "no manifest": (lambda b: (b / MANIFEST).unlink(), "not a bundle (no manifest.json)"),
    "garbage": (
        lambda b: (b / MANIFEST).write_bytes(b"\xff\xfe{"),
        "manifest.json: not UTF-8 text",
    ),
    "half of it": (lambda b: (b / MANIFEST).write_text((b / MANIFEST).read_text()[:500]), "not JSON: "),
    "no object": (lambda b: (b / MANIFEST).write_text("[1]"), "holds no JSON object"),
    "unknown key": (lambda b: edit_manifest(b, lambda m: m["target"].update(x=1)), "unknown key 'target.x'"),
    "missing key": (lambda b: edit_manifest(b, lambda m: m["limits"].pop("slots")), "missing key 'limits.slots'"),
    "no hash": (lambda b: edit_manifest(b, lambda m: m["files"][0].update(sha256="x")), "files.0.sha256"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_bundles_are_refused(bundle: Path, case: str) -> None:
    damage, fragment = DAMAGE[case]
    open_bundle(bundle)
    damage(bundle)
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    assert fragment in str(caught.value)
    assert str(bundle) in str(caught.value)
    assert caught.value.hint


def test_large_files_are_hashed_only_on_demand(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = bundle / "onnx" / "target.onnx.data"
    flip(weights, 100)
    monkeypatch.setattr(opening, "CHEAP_BYTES", weights.stat().st_size - 1)
    opened = open_bundle(bundle)
    record = next(record for record in opened.manifest.files if record.path == "onnx/target.onnx.data")
    seen: list[int] = []
    with pytest.raises(BundleError, match=r"target\.onnx\.data: content differs"):
        check_hash(opened, record, seen.append)
    assert sum(seen) == record.bytes
    monkeypatch.setattr(opening, "CHEAP_BYTES", record.bytes)
    with pytest.raises(BundleError, match="content differs"):
        open_bundle(bundle)
