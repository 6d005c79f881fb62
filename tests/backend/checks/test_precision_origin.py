"""Where the checkpoints of a bundle are looked for when its precision is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspark_engines import Bundle
from dspark_engines.bundle import Manifest
from dspark_engines.errors import CheckpointError
from dspark_export.checks.origin import find_origin
from tests.support import tiny
from tests.support.precision import Pair


def with_sources(bundle: Bundle, **sources: str | None) -> Bundle:
    """`bundle` with other recorded places; None is what an older manifest says."""
    manifest = bundle.manifest
    changed = {name: getattr(manifest, name).model_copy(update={"source": path}) for name, path in sources.items()}
    return Bundle(bundle.path, manifest.model_copy(update=changed))


def test_where_the_checkpoints_are_looked_for(int8: Bundle, tiny_pair: Pair, tmp_path: Path) -> None:
    assert find_origin(int8, None, None) == tiny_pair
    with pytest.raises(CheckpointError, match="does not say where the target is") as error:
        find_origin(with_sources(int8, target=None), None, None)
    assert "--target and --drafter" in error.value.hint
    gone = with_sources(int8, drafter=str(tmp_path / "gone"))
    with pytest.raises(CheckpointError, match=r"drafter was read from .*gone, which is not there"):
        find_origin(gone, None, None)
    assert find_origin(gone, *tiny_pair) == tiny_pair
    other = tiny.write_drafter(tmp_path / "other", seed=7)
    with pytest.raises(CheckpointError, match="other: not the checkpoint that this bundle was built from"):
        find_origin(int8, tiny_pair[0], other)
    moved = with_sources(int8, target=str(tiny.write_target(tmp_path / "changed", seed=7)))
    with pytest.raises(CheckpointError, match="changed: not the checkpoint"):
        find_origin(moved, None, None)


def test_an_old_manifest_is_read(int8: Bundle) -> None:
    data = int8.manifest.model_dump()
    del data["target"]["source"], data["drafter"]["source"], data["recipe"]
    manifest = Manifest.model_validate(data)
    assert manifest.target.source is None
    assert manifest.recipe is None
