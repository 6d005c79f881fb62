"""GGUF targets: weights, description and tokenizer are those of the Hugging Face checkpoint that was converted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from tokenizers import Tokenizer

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import RopeSpec, TargetSpec, open_target
from dspark_export.checkpoints.expected import target_tensors
from dspark_export.checkpoints.gguf_file import GgufFile
from tests.support import tiny
from tests.support.tiny_gguf import metadata, write_gguf_target

WIDE = dataclasses.replace(  # quantised blocks hold 32 weights of a row
    tiny.target_spec(), shape=dataclasses.replace(tiny.target_spec().shape, hidden_size=64)
)
# Largest error of a weight in [-m, m] of its block: half a step of the grid, and f16 rounding of the scale.
STEPS = {GGMLQuantizationType.Q8_0: 127, GGMLQuantizationType.Q4_1: 7.5, GGMLQuantizationType.Q4_0: 7.5}


def random_weights(spec: TargetSpec) -> dict[str, np.ndarray]:
    return tiny.random_tensors(target_tensors(spec))


def replaced(spec: TargetSpec, **changes: Any) -> TargetSpec:
    """`spec` with every layer changed."""
    return dataclasses.replace(spec, shape=tiny.with_layers(spec.shape, **changes))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_f32_weights_come_back_exactly(tmp_path: Path, tied: bool) -> None:
    spec = tiny.target_spec(tied=tied)
    target = open_target(write_gguf_target(tmp_path / "model.gguf", spec))
    expected = random_weights(spec)
    assert target.weights.keys() == expected.keys()
    for name, array in expected.items():
        assert target.weights[name].dtype == np.float32
        np.testing.assert_array_equal(target.weights[name], array, err_msg=name)


@pytest.mark.parametrize("heads", [(4, 4), (3, 1), (2, 1)], ids=str)
def test_rotary_rows_return_to_their_places(tmp_path: Path, heads: tuple[int, int]) -> None:
    """Multi-head, one key head, odd head counts: q and k are permuted per head."""
    spec = replaced(tiny.target_spec(), num_heads=heads[0], num_kv_heads=heads[1])
    target = open_target(write_gguf_target(tmp_path / "model.gguf", spec))
    for name in ("layers.1.self_attn.q_proj.weight", "layers.1.self_attn.k_proj.weight"):
        np.testing.assert_array_equal(target.weights[name], random_weights(spec)[name])


@pytest.mark.parametrize("kind", STEPS, ids=lambda kind: kind.name)
def test_quantised_weights_come_back_within_a_step(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    target = open_target(write_gguf_target(tmp_path / "model.gguf", WIDE, quantization=kind))
    for name, array in random_weights(WIDE).items():
        if array.ndim == 1:
            np.testing.assert_array_equal(target.weights[name], array)
            continue
        blocks = np.abs(array).reshape(-1, 32).max(axis=1, keepdims=True)
        bound = np.broadcast_to(blocks * (1.3 if kind.name == "Q4_0" else 0.6) / STEPS[kind], (blocks.size, 32))
        assert (np.abs(target.weights[name] - array) <= bound.reshape(array.shape)).all(), name


@pytest.mark.parametrize("kind", [GGMLQuantizationType.F16, GGMLQuantizationType.BF16], ids=lambda kind: kind.name)
def test_half_precision_weights(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    target = open_target(write_gguf_target(tmp_path / "model.gguf", quantization=kind))
    for name, array in random_weights(tiny.target_spec()).items():
        relative = 2**-8 if kind == GGMLQuantizationType.BF16 else 2**-11
        np.testing.assert_allclose(target.weights[name], array, rtol=relative, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_description(tmp_path: Path, tied: bool) -> None:
    spec = dataclasses.replace(tiny.target_spec(tied=tied), eos_token_ids=(7,))
    target = open_target(write_gguf_target(tmp_path / "model.gguf", spec))
    eps = target.spec.shape.rms_norm_eps  # stored as float32
    assert eps == pytest.approx(spec.shape.rms_norm_eps, rel=1e-6)
    exact = dataclasses.replace(target.spec.shape, rms_norm_eps=spec.shape.rms_norm_eps)
    assert dataclasses.replace(target.spec, shape=exact) == spec
    assert target.text.chat_template == tiny.TEMPLATE
    assert target.text.add_bos is False
    assert target.files == [tmp_path / "model.gguf"]


def test_description_without_the_optional_keys(tmp_path: Path) -> None:
    optional = ("llama.attention.key_length", "llama.rope.dimension_count", "tokenizer.ggml.bos_token_id",
                "tokenizer.ggml.add_bos_token", "tokenizer.chat_template")  # fmt: skip
    changes = dict.fromkeys(optional)
    spec = replaced(tiny.target_spec(), num_heads=3, num_kv_heads=1)  # 48 / 3 = 16, as head_dim says
    target = open_target(write_gguf_target(tmp_path / "model.gguf", spec, **changes))
    assert (target.spec.shape.layers[0].head_dim, target.spec.bos_token_id, target.text.chat_template) == (
        16,
        None,
        None,
    )


def test_linear_rope_scaling(tmp_path: Path) -> None:
    changes = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0, "llama.rope.freq_base": 5e5}
    target = open_target(write_gguf_target(tmp_path / "model.gguf", **changes))
    assert target.spec.shape.layers[0].rope == RopeSpec(5e5, "linear", factor=4.0)


def test_opening_loads_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    original = GgufFile.load
    monkeypatch.setattr(GgufFile, "load", lambda self, name: (loaded.append(name), original(self, name))[1])
    target = open_target(write_gguf_target(tmp_path / "model.gguf"))
    assert loaded == []
    assert target.weights["norm.weight"].shape == (tiny.HIDDEN,)
    assert loaded == ["output_norm.weight"]


def test_tokenizer_is_that_of_the_metadata(tmp_path: Path) -> None:
    target = open_target(write_gguf_target(tmp_path / "model.gguf"))
    tokenizer = Tokenizer.from_str(target.text.tokenizer_json)
    tokens = metadata(tiny.target_spec())["tokenizer.ggml.tokens"]
    assert [tokenizer.id_to_token(index) for index in range(len(tokens))] == tokens
    encoded = tokenizer.encode("<s>see the  12 cats</s>")
    assert encoded.tokens == ["<s>", "s", "e", "e", "Ġthe", "ĠĠ", "1", "2", "Ġ", "c", "a", "t", "s", "</s>"]
    assert tokenizer.decode(encoded.ids) == "see the  12 cats"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": ({"general.architecture": "phi3"}, "architecture 'phi3'"),
    "another tokenizer": ({"tokenizer.ggml.model": "t5"}, "tokenizer 't5/smollm'"),
    "sentencepiece without scores": ({"tokenizer.ggml.model": "llama"}, "missing key 'tokenizer.ggml.scores'"),
    "sentencepiece, too few scores": (
        {"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0.0]},
        "1 scores for 128 tokens in its vocabulary",
    ),
    "no pre-tokenizer": ({"tokenizer.ggml.pre": None}, "missing key 'tokenizer.ggml.pre', which says how"),
    "empty pre-tokenizer": ({"tokenizer.ggml.pre": ""}, "missing key 'tokenizer.ggml.pre'"),
    "default pre-tokenizer": ({"tokenizer.ggml.pre": "default"}, "tokenizer 'gpt2/default'"),
    "pre-tokenizer": ({"tokenizer.ggml.pre": "deepseek-coder"}, "tokenizer 'gpt2/deepseek-coder'"),
    "longrope": ({"llama.rope.scaling.type": "longrope"}, "rope scaling 'longrope' is not supported from GGUF"),
    "partial rotary": ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count is 8"),
    "a negative factor": ({"llama.rope.scaling.factor": -2.0}, "the factor of rope scaling is -2.0"),
    "a factor that is text": ({"llama.rope.scaling.factor": "four"}, "the factor of rope scaling is 'four'"),
    "no base": ({"llama.rope.freq_base": 0.0}, "llama.rope.freq_base is 0.0"),
    "one part": ({"split.count": 2, "split.no": 0}, "one of 2 parts, and not named as part"),
    "no eos": ({"tokenizer.ggml.eos_token_id": None}, "missing key 'tokenizer.ggml.eos_token_id'"),
    "no layers": ({"llama.block_count": None}, "missing key 'llama.block_count'"),
    "no merges": ({"tokenizer.ggml.merges": None}, "missing key 'tokenizer.ggml.merges'"),
    "text for a number": ({"llama.embedding_length": "wide"}, "llama.embedding_length"),
    "zero heads": ({"llama.attention.head_count": 0}, "llama.attention.head_count is 0"),
    "heads that do not divide": ({"llama.attention.head_count_kv": 3}, "head_count_kv 3"),
    "fewer layers": ({"llama.block_count": 3}, "unknown tensor 'layers.3.input_layernorm.weight' (and 8 more)"),
    "more layers": ({"llama.block_count": 5}, "missing tensor 'layers.4.input_layernorm.weight' (and 8 more)"),
    "no end of layers": ({"llama.block_count": 2**31}, "2147483648 layers announced, and 38 tensors in all"),
    "another width": ({"llama.feed_forward_length": 65}, "layers.0.mlp.down_proj.weight has shape [48, 64]"),
    "eos outside": ({"tokenizer.ggml.eos_token_id": 128}, "128"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(tmp_path: Path, case: str) -> None:
    changes, fragment = REFUSED[case]
    path = write_gguf_target(tmp_path / "model.gguf", **changes)
    with pytest.raises(CheckpointError) as caught:
        open_target(path)
    assert fragment in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("rope_freqs.weight", "does not hold 8 positive numbers"),
        ("blk.0.attn_q.bias", "missing tensor 'layers.0.self_attn.k_proj.bias'"),
        ("blk.0.ffn_up.bias", "unknown tensor 'layers.0.mlp.up_proj.bias'"),
    ],
)
def test_tensors_that_would_change_the_model(tmp_path: Path, name: str, fragment: str) -> None:
    path = write_gguf_target(tmp_path / "model.gguf", extra={name: np.zeros(8, np.float32)})
    with pytest.raises(CheckpointError, match=fragment):
        open_target(path)


def test_any_truncation_is_refused(tmp_path: Path) -> None:
    whole = write_gguf_target(tmp_path / "model.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in [*range(0, 64), *range(64, len(whole), len(whole) // 97), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"cut\.gguf"):
            open_target(cut)


def test_a_damaged_length_is_refused_at_once(tmp_path: Path) -> None:
    path = write_gguf_target(tmp_path / "model.gguf")
    data, key = bytearray(path.read_bytes()), b"tokenizer.ggml.token_type"
    length = data.index(key) + len(key) + 8  # after the key: type and item type, four bytes each
    assert int.from_bytes(data[length : length + 8], "little") == tiny.VOCAB
    data[length + 5] = 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="not a complete GGUF file"):
        open_target(path)


def test_random_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    whole = write_gguf_target(tmp_path / "model.gguf").read_bytes()
    damaged, random, refused = tmp_path / "damaged.gguf", np.random.default_rng(0), 0
    for _ in range(150):
        data = bytearray(whole)
        data[random.integers(3000)] = random.integers(256)
        damaged.write_bytes(data)
        try:
            open_target(damaged)
        except CheckpointError:
            refused += 1
    assert refused > 50
