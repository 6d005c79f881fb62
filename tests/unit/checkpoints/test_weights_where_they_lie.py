"""Which of several copies of a tensor is the model's: as transformers finds them, and never in silence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_target
from dspark_export.checkpoints.expected import target_tensors
from dspark_export.checkpoints.safetensors_source import ROWS_AT_A_TIME, SafetensorsSource
from tests.support import tiny

SINGLE = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write_target(tmp_path, tiny.target_spec(tied=False))


def write_index(folder: Path, owners: dict[str, str]) -> None:
    (folder / f"{SINGLE}.index.json").write_text(json.dumps({"weight_map": owners}))


def assert_right(folder: Path) -> None:
    """The tensors are those that the fixture wrote."""
    target = open_target(folder)
    for name, array in tiny.random_tensors(target_tensors(target.spec)).items():
        np.testing.assert_array_equal(target.weights[name], array, err_msg=name)


@pytest.mark.parametrize("stale_last", [True, False])
def test_the_index_decides_between_copies(folder: Path, stale_last: bool) -> None:
    tensors = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    stale = "b.safetensors" if stale_last else "a.safetensors"
    copied = parts["a.safetensors" if stale_last else "b.safetensors"][:3]
    for file, held in parts.items():
        extra = {name: tensors[name] + 1 for name in copied} if file == stale else {}
        save_file({name: tensors[name] for name in held} | extra, folder / file)
    write_index(folder, {name: file for file, held in parts.items() for name in held})
    assert_right(folder)


@pytest.mark.parametrize("shards_are_there", [True, False])
def test_a_single_file_comes_before_an_index(folder: Path, shards_are_there: bool) -> None:
    tensors = load_file(folder / SINGLE)
    if shards_are_there:
        save_file({name: array + 1 for name, array in tensors.items()}, folder / "old.safetensors")
    write_index(folder, dict.fromkeys(tensors, "old.safetensors"))
    with pytest.warns(UserWarning, match=r"index\.json: not read, since model\.safetensors lies beside it"):
        assert_right(folder)


def test_an_index_of_the_single_file_is_nothing_to_mention(folder: Path) -> None:
    write_index(folder, dict.fromkeys(load_file(folder / SINGLE), SINGLE))
    assert_right(folder)  # warnings of ours are errors


def test_another_head_than_the_embedding_is_used_though_the_config_ties_them(folder: Path) -> None:
    tiny.edit_config(folder, tie_word_embeddings=True)
    with pytest.warns(UserWarning, match="the weights hold another head: it is used"):
        assert not open_target(folder).spec.tied_embeddings
    with pytest.warns(UserWarning, match="another head"):
        assert_right(folder)


def test_the_same_head_twice_is_one(folder: Path) -> None:
    tiny.edit_config(folder, tie_word_embeddings=True)
    tensors = load_file(folder / SINGLE)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    save_file(tensors, folder / SINGLE)
    target = open_target(folder)
    assert target.spec.tied_embeddings
    assert "lm_head.weight" not in target.weights


def test_tables_are_compared_to_the_last_row(tmp_path: Path) -> None:
    table = np.zeros((ROWS_AT_A_TIME + 3, 2), np.float32)
    other = table.copy()
    other[-1, -1] = 1
    save_file({"a": table, "b": other, "c": table.copy(), "d": table[:-1].copy()}, tmp_path / SINGLE)
    source = SafetensorsSource(tmp_path)
    assert source.same("a", "c")
    assert not source.same("a", "b")
    assert not source.same("a", "d")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_number_is_refused_when_its_tensor_is_read(folder: Path, value: float) -> None:
    tensors = load_file(folder / SINGLE)
    tensors["model.layers.1.mlp.down_proj.weight"][2, 5] = value
    save_file(tensors, folder / SINGLE)
    weights = open_target(folder).weights
    assert np.isfinite(weights["layers.0.mlp.down_proj.weight"]).all()
    with pytest.raises(CheckpointError, match=r"tensor model\.layers\.1\.mlp\.down_proj\.weight holds .* at \[2, 5\]"):
        weights["layers.1.mlp.down_proj.weight"]


def test_asking_for_a_tensor_loads_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of gigabytes would be read to learn that it is there."""
    weights = open_target(folder).weights
    monkeypatch.setattr(SafetensorsSource, "load", lambda *_: pytest.fail("a tensor was loaded"))
    assert "lm_head.weight" in weights
    assert "embed_positions.weight" not in weights
