"""A bundle as older versions have written it: other names for one graph and its op, and for keys of measurements."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import onnx

from dspark_engines.bundle import record_file
from tests.support.command_line import edit_json

GRAPH, OLD_GRAPH = "onnx/accept.onnx", "onnx/verification.onnx"


def older_bundle(bundle: Path, copy: Path) -> Path:
    """A copy of `bundle` whose accept graph is `verification.onnx` and holds `dspark::Verify`."""
    shutil.copytree(bundle, copy)
    model = onnx.load(copy / GRAPH)
    for named in (*model.graph.node, *model.functions):
        if named.domain == "dspark":
            _rename(named)
    (copy / GRAPH).unlink()
    onnx.save(model, copy / OLD_GRAPH)
    edit_json(copy / "manifest.json", lambda manifest: _describe(manifest, copy))
    return copy


def _rename(named: Any) -> None:
    """The op of a node, or the name of a function."""
    field = "op_type" if isinstance(named, onnx.NodeProto) else "name"
    assert getattr(named, field) == "Accept"
    setattr(named, field, "Verify")


def _describe(manifest: dict[str, Any], root: Path) -> None:
    manifest["graphs"]["verification"] = manifest["graphs"].pop("accept") | {"path": OLD_GRAPH}
    others = [record for record in manifest["files"] if record["path"] != GRAPH]
    manifest["files"] = [*others, record_file(root / OLD_GRAPH, root).model_dump()]


OLDER_KEYS = {
    "exclusive": "alone",
    "shared": "beside",
    "timings": "trials",
    "layout": "arrangement",
}


def older_keys(measured: Any) -> Any:
    """A placement or cost table, parsed, with the keys of older versions."""
    if isinstance(measured, list):
        return [older_keys(each) for each in measured]
    if not isinstance(measured, dict):
        return measured
    return {OLDER_KEYS.get(key, key): older_keys(value) for key, value in measured.items()}
