"""Hugging Face targets and DeepSpec drafters: what was saved is what is read, and no weight before it is asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_export.checkpoints import DrafterSpec, RopeSpec, TargetSpec, open_drafter, open_target
from dspark_export.checkpoints.expected import drafter_optional_tensors, drafter_tensors, target_tensors
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from tests.support import tiny

LLAMA3 = RopeSpec(5e5, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=64)
ROPES = [RopeSpec(1e6), RopeSpec(1e4, "linear", factor=2.0), LLAMA3]
HEADS = [
    pytest.param(kind, confidence, with_markov, id=f"{kind}-{confidence}-{with_markov}")
    for kind in ("none", "vanilla", "gated", "rnn")
    for confidence, with_markov in ((True, True), (True, False), (False, False))
    if kind != "none" or not with_markov
]


def assert_holds(weights: Any, expected: dict[str, np.ndarray]) -> None:
    assert weights.keys() == expected.keys()
    assert weights.shapes == {name: array.shape for name, array in expected.items()}
    for name, array in expected.items():
        assert weights[name].dtype == np.float32
        np.testing.assert_array_equal(weights[name], array, err_msg=name)


def random_target(spec: TargetSpec) -> dict[str, np.ndarray]:
    return tiny.random_tensors(target_tensors(spec))


def rewrite(folder: Path, change: Any) -> None:
    """Apply `change` to the dict of tensors in the folder's only safetensors file."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file(change(tensors) or tensors, path)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("rope", ROPES, ids=lambda rope: rope.kind)
def test_target(tmp_path: Path, architecture: str, tied: bool, rope: RopeSpec) -> None:
    spec = tiny.target_spec(architecture, tied=tied, rope=rope)
    target = open_target(tiny.write_target(tmp_path, spec))
    expected = dataclasses.replace(rope, original_max_positions=64 if rope is LLAMA3 else 8192)
    assert target.spec == dataclasses.replace(spec, shape=tiny.with_layers(spec.shape, rope=expected))
    assert_holds(target.weights, random_target(spec))
    if architecture == "llama":  # transformers builds Qwen's anew, see test_text_parity.py
        assert target.text.tokenizer_json == (tmp_path / "tokenizer.json").read_text()
    assert (target.text.chat_template, target.text.add_bos) == (tiny.TEMPLATE, False)
    names = [file.name for file in target.files]
    assert names == ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"]


def test_sharded_target(tmp_path: Path) -> None:
    spec = tiny.target_spec("qwen3", tied=False)
    tiny.write_target(tmp_path, spec)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    shards = {name: f"model-{index % 3 + 1:05}-of-00003.safetensors" for index, name in enumerate(tensors)}
    for file in sorted(set(shards.values())):
        save_file({name: tensors[name] for name in tensors if shards[name] == file}, tmp_path / file)
    index = {"metadata": {}, "weight_map": shards}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    target = open_target(tmp_path)
    assert_holds(target.weights, random_target(spec))
    assert len([file for file in target.files if file.suffix == ".safetensors"]) == 3


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16], ids=["bf16", "f16"])
def test_half_precision_storage(tmp_path: Path, dtype: Any) -> None:
    """Values that the storage type holds come back exactly, as float32."""
    target, drafter = tiny.write_target(tmp_path / "target"), tiny.write_drafter(tmp_path / "drafter")
    for folder in (target, drafter):
        rewrite(folder, lambda tensors: {name: array.astype(dtype) for name, array in tensors.items()})
    opened = open_target(target)
    rounded = {name: array.astype(dtype).astype(np.float32) for name, array in random_target(opened.spec).items()}
    assert_holds(opened.weights, rounded)
    saved = tiny.random_tensors(drafter_tensors(tiny.drafter_spec()), seed=1)
    rounded = {name: array.astype(dtype).astype(np.float32) for name, array in saved.items()}
    assert_holds(open_drafter(drafter, opened.spec).weights, rounded)


OLD_ROPES: dict[str, tuple[dict[str, Any], RopeSpec]] = {
    "theta at the top": ({"rope_theta": 25e3}, RopeSpec(25e3)),
    "no scaling": ({"rope_theta": 25e3, "rope_scaling": None}, RopeSpec(25e3)),
    "oldest spelling": ({"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4.0}},
                        RopeSpec(1e4, "linear", factor=4.0)),
    "llama3": ({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                                    "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
               LLAMA3),
}  # fmt: skip


@pytest.mark.parametrize("case", OLD_ROPES)
def test_older_rope_keys(tmp_path: Path, case: str) -> None:
    keys, expected = OLD_ROPES[case]
    tiny.write_target(tmp_path)
    tiny.edit_config(tmp_path, rope_parameters=None, **keys)
    assert open_target(tmp_path).spec.shape.layers[0].rope == expected


def test_duplicate_head_and_rotary_buffers_are_no_weights(tmp_path: Path) -> None:
    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
        for layer in range(tiny.LAYERS):
            tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)

    rewrite(tiny.write_target(tmp_path), add)
    target = open_target(tmp_path)
    assert target.spec.tied_embeddings
    assert_holds(target.weights, random_target(target.spec))


@pytest.mark.parametrize(
    ("content", "expected"),
    [({"eos_token_id": [5, 2]}, (5, 2)), ({"eos_token_id": 7}, (7,)), ({"eos_token_id": None}, (2,)), ({}, (2,))],
    ids=str,
)
def test_generation_config_knows_the_ids_that_end_a_turn(
    tmp_path: Path, content: dict[str, Any], expected: tuple[int, ...]
) -> None:
    (tiny.write_target(tmp_path) / "generation_config.json").write_text(json.dumps(content))
    assert open_target(tmp_path).spec.eos_token_ids == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [("{{ x }}", "{{ x }}"), ([{"name": "tool_use", "template": "b"}, {"name": "default", "template": "a"}], "a")],
    ids=["one", "several"],
)
def test_chat_template_of_the_tokenizer_config(tmp_path: Path, template: Any, expected: str) -> None:
    (tiny.write_target(tmp_path) / "chat_template.jinja").unlink()
    assert open_target(tmp_path).text.chat_template is None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert open_target(tmp_path).text.chat_template == expected


@pytest.mark.parametrize(("kind", "confidence", "with_markov"), HEADS)
def test_drafter(tmp_path: Path, kind: str, confidence: bool, with_markov: bool) -> None:
    spec = tiny.drafter_spec(kind, confidence=confidence, with_markov=with_markov)
    drafter = open_drafter(tiny.write_drafter(tmp_path, spec), tiny.target_spec())
    assert drafter.spec == spec
    assert drafter.spec.feature_size == len(tiny.TAPS) * tiny.HIDDEN
    assert_holds(drafter.weights, tiny.random_tensors(drafter_tensors(spec), seed=1))
    assert [file.name for file in drafter.files] == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("kind", ["vanilla", "gated", "rnn"])
def test_rank_zero_is_no_markov_head_whatever_its_type(tmp_path: Path, kind: str) -> None:
    tiny.write_drafter(tmp_path, tiny.drafter_spec("none"))
    tiny.edit_config(tmp_path, markov_head_type=kind)
    assert open_drafter(tmp_path, tiny.target_spec()).spec == tiny.drafter_spec("none")


@pytest.mark.parametrize("own", [(True, False), (False, True), (True, True)], ids=str)
def test_own_embedding_and_head(tmp_path: Path, own: tuple[bool, bool]) -> None:
    spec: DrafterSpec = dataclasses.replace(tiny.drafter_spec(), own_embedding=own[0], own_head=own[1])
    tables = tiny.random_tensors(drafter_optional_tensors(spec), seed=2)
    added = {name: table for (name, table), there in zip(tables.items(), own, strict=True) if there}
    rewrite(tiny.write_drafter(tmp_path), lambda tensors: tensors | added)
    drafter = open_drafter(tmp_path, tiny.target_spec())
    assert drafter.spec == spec
    assert_holds(drafter.weights, tiny.random_tensors(drafter_tensors(spec), seed=1) | added)


def test_taps_may_begin_with_the_embedding(tmp_path: Path) -> None:
    spec = dataclasses.replace(tiny.drafter_spec(), target_layer_ids=(-1, 0, tiny.LAYERS - 2))
    drafter = open_drafter(tiny.write_drafter(tmp_path, spec), tiny.target_spec())
    assert drafter.spec.target_layer_ids == (-1, 0, 2)


def test_opening_loads_no_weight(tiny_pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    original = SafetensorsSource.load
    monkeypatch.setattr(SafetensorsSource, "load", lambda self, name: (loaded.append(name), original(self, name))[1])
    target = open_target(tiny_pair[0])
    drafter = open_drafter(tiny_pair[1], target.spec)
    assert target.weights.shapes["norm.weight"] == (tiny.HIDDEN,)
    assert loaded == []
    assert target.weights["norm.weight"].shape == drafter.weights["norm.weight"].shape
    assert loaded == ["model.norm.weight", "norm.weight"]


@pytest.mark.parametrize(
    ("kind", "confidence", "dropped"),
    [
        ("none", False, ("markov_head_type", "confidence_head_with_markov")),
        ("vanilla", False, ("confidence_head_with_markov",)),
        ("none", True, ("markov_head_type",)),
    ],
)
def test_deepspec_leaves_out_keys_of_heads_that_are_not_there(
    tmp_path: Path, kind: str, confidence: bool, dropped: tuple[str, ...]
) -> None:
    target = open_target(tiny.write_target(tmp_path / "target"))
    spec = tiny.drafter_spec(kind, confidence=confidence, with_markov=False)
    folder = tiny.write_drafter(tmp_path / "drafter", spec)
    tiny.edit_config(folder, **dict.fromkeys(dropped))
    assert open_drafter(folder, target.spec).spec == spec


def test_a_drafter_saved_inside_its_wrapper(tmp_path: Path) -> None:
    """Names begin with `model.` then, as a target's do."""
    target = open_target(tiny.write_target(tmp_path / "target"))
    folder = tiny.write_drafter(tmp_path / "drafter")
    plain = dict(open_drafter(folder, target.spec).weights)
    rewrite(folder, lambda tensors: {f"model.{name}": array for name, array in tensors.items()})
    assert_holds(open_drafter(folder, target.spec).weights, plain)
