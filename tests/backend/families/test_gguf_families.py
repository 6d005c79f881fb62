"""Families whose GGUF files are read: a file with llama.cpp's names gives the spec and the weights of the directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from tokenizers import Regex, Tokenizer, pre_tokenizers

from dspark_export.checkpoints import LayerSpec, TargetSpec, Weights
from dspark_export.checkpoints.dialects.gguf import read_gguf_target
from dspark_export.checkpoints.dialects.gguf_drafter_file import add_metadata
from dspark_export.checkpoints.gguf_file import GgufFile
from dspark_export.checkpoints.seams import get_family
from dspark_export.checkpoints.text.gguf_tokenizer import read_gguf_tokenizer
from tests.backend.families.test_families import MOE, OSS, SIZES, VOCAB, WINDOW, Family, family
from tests.support import tiny_gguf
from tests.support.tiny_gemma4_gguf import of_model, write_gemma4_gguf
from tests.unit.checkpoints.test_gguf_tokenizer import TEXTS as REAL_TEXTS

transformers = pytest.importorskip("transformers")
__all__ = ["family"]  # a fixture
CASES = (
    "qwen2",
    "qwen2, untied",
    "qwen3",
    "qwen3, biases",
    "qwen3 moe",
    "gpt-oss",
    "gemma3",
    "gemma3, linear on full layers",
    "llama, biases",
    "llama, yarn",
    "gemma4",
    "gemma4, keys for values",
    "gemma4, shared keys",
    "gemma4, experts",
    "gemma4, experts and shared keys",
    "gemma4 unified",
)
BROUGHT = {
    "gpt-oss": {
        "gpt-oss.attention.sliding_window": WINDOW,
        "gpt-oss.expert_count": OSS["num_local_experts"],
        "gpt-oss.expert_used_count": OSS["num_experts_per_tok"],
        "gpt-oss.expert_feed_forward_length": SIZES["intermediate_size"],
    },
    "gemma3": {"gemma3.attention.sliding_window": WINDOW},
    "qwen3moe": {
        "qwen3moe.expert_count": MOE["num_experts"],
        "qwen3moe.expert_used_count": MOE["num_experts_per_tok"],
        "qwen3moe.expert_feed_forward_length": MOE["moe_intermediate_size"],
    },
}


def write(path: Path, spec: TargetSpec, weights: Weights, scaling: dict[str, object]) -> Path:
    """With the names that llama.cpp's converter gives."""
    layout = get_family(spec.architecture).gguf
    assert layout is not None
    writer, name = GGUFWriter(path, layout.architecture), layout.architecture
    values = {key.replace("llama.", f"{name}.", 1): value for key, value in tiny_gguf.metadata(spec).items()}
    for key, value in (values | BROUGHT.get(name, {}) | scaling).items():
        add_metadata(writer, key, value)
    names = {stem: given for given, stem in {**layout.top, **layout.layer}.items()}
    if name == "gemma3":  # two of its norms are at home elsewhere than Llama's
        names |= {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm"}
    for canonical in weights:
        stem, kind = canonical.rsplit(".", 1)
        if kind == "sinks":
            writer.add_tensor(f"blk.{stem.split('.')[1]}.attn_sinks.weight", weights[canonical])
            continue
        block, inner = (
            ("", stem) if not stem.startswith("layers.") else (f"blk.{stem.split('.')[1]}.", stem.split(".", 2)[2])
        )
        array = weights[canonical]
        if layout.permuted:
            array = permuted(inner, array, spec)
        writer.add_tensor(f"{block}{names[inner]}.{kind}", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def permuted(inner: str, array: np.ndarray, spec: TargetSpec) -> np.ndarray:
    """`LlamaModel.permute` of llama.cpp's converter, of a matrix or a bias."""
    layer = spec.shape.layers[0]
    heads = {"self_attn.q_proj": layer.num_heads, "self_attn.k_proj": layer.num_kv_heads}.get(inner)
    if heads is None:
        return array
    halves = array.reshape(heads, 2, len(array) // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))


@pytest.mark.parametrize("family", CASES, indirect=True)
def test_spec_and_weights_are_the_directory_s(family: Family, tmp_path: Path) -> None:
    """Gemma's norms lie in GGUF with the one added that transformers adds as it runs; the others' lie as they are."""
    spec = family.spec
    if spec.architecture.startswith("gemma4"):
        path = write_gemma4_gguf(tmp_path / "model.gguf", *of_model(family.model))
        check_read(path, family, spec.shape.layers)
        return
    rope = next(layer for layer in spec.shape.layers if not layer.window).rope
    layout = get_family(spec.architecture).gguf
    assert layout is not None
    scaling: dict[str, object] = {f"{layout.architecture}.rope.freq_base": rope.theta}
    if rope.kind != "default":
        scaling |= {f"{layout.architecture}.rope.scaling.type": rope.kind}
        scaling |= {f"{layout.architecture}.rope.scaling.factor": rope.factor}
    if rope.kind == "yarn":
        scaling |= {f"{layout.architecture}.rope.scaling.original_context_length": rope.original_max_positions}
    path = write(tmp_path / "model.gguf", spec, family.weights, scaling)
    layers = spec.shape.layers
    if spec.architecture == "gemma3":  # llama.cpp takes the width of a head for Gemma's `query_pre_attn_scalar`
        layers = tuple(replace(layer, scale=layer.head_dim**-0.5) for layer in layers)
    if spec.architecture == "gpt_oss":  # llama.cpp has its own limit, and YaRN's ramp between whole pairs
        layers = tuple(as_llama_cpp(layer) for layer in layers)
    check_read(path, family, layers)


def check_read(path: Path, family: Family, layers: tuple[LayerSpec, ...]) -> None:
    """The file at `path` has these layers, and of all else what the directory has."""
    spec, (found, weights) = family.spec, read_gguf_target(GgufFile(path))
    assert found.shape.layers == layers
    assert found.vocab_size == VOCAB
    assert (found.embedding_scale, found.tied_embeddings) == (pytest.approx(spec.embedding_scale), spec.tied_embeddings)
    assert (found.per_layer_scale, found.logit_softcap) == (pytest.approx(spec.per_layer_scale), spec.logit_softcap)
    assert set(weights) == set(family.weights)
    for name in weights:
        np.testing.assert_array_equal(weights[name], family.weights[name], err_msg=name)


def as_llama_cpp(layer: LayerSpec) -> LayerSpec:
    """gpt-oss without what its GGUF files have no key for."""
    assert layer.experts is not None
    return replace(layer, rope=replace(layer.rope, truncate=True), experts=replace(layer.experts, limit=7.0))


@pytest.mark.parametrize("family", ["gpt-oss"], indirect=True)
def test_a_file_may_say_which_layers_of_gpt_oss_slide(family: Family, tmp_path: Path) -> None:
    """Keys that llama.cpp reads where they are there; a period of 3 is a full layer behind two that slide."""
    said: dict[str, object] = {"gpt-oss.attention.sliding_window_pattern": 3, "gpt-oss.rope.freq_base_swa": 500.0}
    path = write(tmp_path / "model.gguf", family.spec, family.weights, said | {"gpt-oss.rope.freq_base": 1e4})
    layers = read_gguf_target(GgufFile(path))[0].shape.layers
    assert [(layer.window, layer.rope.theta) for layer in layers] == [(WINDOW, 500.0), (WINDOW, 500.0), (0, 1e4)]


TEXTS = ("Ünïcode e\u0301 don't WE'LL", "1234567 a1b22", "  two\n\n\tlines \r\n", "世界🙂 नमस्ते", "x=[1,2];  y")
CASED = (
    "HelloWorld HTTPServer iPhone ǅungla",
    "I'M we'Ll don'ts 's",
    "//path\n/ a/b\r\n/",
    "ʰΩé\u0301A\u0300b",
    "1234 ½٣",
)


@pytest.mark.parametrize("text", [*TEXTS, *REAL_TEXTS, *CASED])
def test_gpt_oss_s_text_is_split_as_transformers_splits_it(text: str, tmp_path: Path) -> None:
    splits = pytest.importorskip("transformers.integrations.gguf.gguf_tokenizer_mapping").GGUF_PRE_TOKENIZER_SPLITS
    path = tiny_gguf.write_gguf_target(tmp_path / "m.gguf", **{"tokenizer.ggml.pre": "gpt-4o"})
    ours = Tokenizer.from_str(read_gguf_tokenizer(GgufFile(path)))
    split = pre_tokenizers.Split(Regex(splits["gpt-4o"]), "isolated")
    theirs = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    assert ours.normalizer is None
    assert ours.pre_tokenizer.pre_tokenize_str(text) == theirs.pre_tokenize_str(text)


@pytest.mark.parametrize("text", TEXTS)
def test_qwen_s_text_is_split_as_transformers_splits_it(text: str, tmp_path: Path) -> None:
    """On bytes alone: with no merges every token is a byte, and what differs is how text is normalised and cut."""
    path = tiny_gguf.write_gguf_target(tmp_path / "m.gguf", **{"tokenizer.ggml.pre": "qwen2"})
    ours = Tokenizer.from_str(read_gguf_tokenizer(GgufFile(path)))
    theirs = transformers.Qwen2Tokenizer(vocab={"a": 0}, merges=[]).backend_tokenizer
    assert ours.normalizer.normalize_str(text) == theirs.normalizer.normalize_str(text)
    normal = ours.normalizer.normalize_str(text)
    assert ours.pre_tokenizer.pre_tokenize_str(normal) == theirs.pre_tokenizer.pre_tokenize_str(normal)
