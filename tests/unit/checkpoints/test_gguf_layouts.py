"""GGUF files as llama.cpp reads them: rope scaling in all its spellings, split files, every type of tensor."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import LayerSpec, RopeSpec, TargetSpec, open_target
from dspark_export.checkpoints.expected import target_tensors
from dspark_export.checkpoints.gguf_file import GgufFile
from dspark_export.families.gemma3.gguf import gemma3_layers
from dspark_export.graphs.rope import inverse_frequencies
from dspark_export.parity.decoder import inverse_frequencies as torch_frequencies
from tests.support import tiny
from tests.support.tiny_gguf import write_gguf_target

WIDE_256 = dataclasses.replace(tiny.target_spec(), shape=dataclasses.replace(tiny.target_spec().shape, hidden_size=256))
PLAIN_ROPE = RopeSpec(1e4)
ROPE_BY_4 = RopeSpec(1e4, "linear", factor=4.0)


def random_weights(spec: TargetSpec) -> dict[str, np.ndarray]:
    return tiny.random_tensors(target_tensors(spec))


SCALINGS: dict[str, tuple[dict[str, Any], RopeSpec]] = {
    "typed": ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}, ROPE_BY_4),
    "a factor without a type is linear": ({"llama.rope.scaling.factor": 4.0}, ROPE_BY_4),
    "the factor's old name": ({"llama.rope.scale_linear": 4.0}, ROPE_BY_4),
    "the new name comes first": ({"llama.rope.scaling.factor": 4.0, "llama.rope.scale_linear": 8.0}, ROPE_BY_4),
    "none scales nothing": ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}, PLAIN_ROPE),
    "a factor of nothing": ({"llama.rope.scaling.factor": 0.0}, PLAIN_ROPE),
    "a type with a factor of nothing": (
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 0.0},
        PLAIN_ROPE,
    ),
}


@pytest.mark.parametrize("case", SCALINGS)
def test_rope_scaling_is_read_as_llama_cpp_reads_it(tmp_path: Path, case: str) -> None:
    changes, expected = SCALINGS[case]
    assert open_target(write_gguf_target(tmp_path / "model.gguf", **changes)).spec.shape.layers[0].rope == expected


def test_rope_divisors_are_read_and_used(tmp_path: Path) -> None:
    """Llama 3.1 in GGUF: llama3's smooth scaling as a divisor for every frequency."""
    head_dim = tiny.target_spec().shape.layers[0].head_dim
    llama3 = RopeSpec(1e4, "llama3", 8.0, 1.0, 4.0, 64)
    divisors = inverse_frequencies(RopeSpec(1e4), head_dim) / inverse_frequencies(llama3, head_dim)
    assert (divisors > 1).any()
    path = write_gguf_target(tmp_path / "model.gguf", extra={"rope_freqs.weight": divisors.astype(np.float32)})
    rope = open_target(path).spec.shape.layers[0].rope
    np.testing.assert_allclose(inverse_frequencies(rope, head_dim), inverse_frequencies(llama3, head_dim), rtol=1e-6)
    ours, theirs = inverse_frequencies(rope, head_dim), torch_frequencies(head_dim, rope).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_counts_may_be_said_for_each_layer(tmp_path: Path) -> None:
    """llama.cpp reads one number for all layers or an array of them, of every architecture."""
    plain = open_target(write_gguf_target(tmp_path / "plain.gguf"))
    keys = ("llama.attention.head_count", "llama.attention.head_count_kv", "llama.feed_forward_length")
    file = GgufFile(tmp_path / "plain.gguf")
    arrays = {key: [file.get(key)] * tiny.LAYERS for key in keys}
    found = open_target(write_gguf_target(tmp_path / "arrays.gguf", **arrays))
    assert found.spec == plain.spec
    for name in plain.weights:
        np.testing.assert_array_equal(found.weights[name], plain.weights[name], err_msg=name)


@pytest.mark.parametrize(("depth", "scale"), [(34, 128**-0.5), (62, 168**-0.5)])
def test_gemma_3_27b_scales_attention_by_hidden_size_over_heads(tmp_path: Path, depth: int, scale: float) -> None:
    """Not by the width of a head, as the smaller ones do; 27B is told by its depth, as llama.cpp tells it."""
    keys = {"gemma3.attention.sliding_window": 1024, "gemma3.embedding_length": 5376}
    file = GgufFile(write_gguf_target(tmp_path / "model.gguf", **keys))
    layer = LayerSpec(num_heads=32, num_kv_heads=16, head_dim=128, intermediate_size=8, rope=PLAIN_ROPE)
    layers = gemma3_layers(file, (layer,) * depth)
    assert len(layers) == depth
    assert {layer.scale for layer in layers} == {scale}


def split(folder: Path, count: int) -> list[Path]:
    """A target in parts, as llama-gguf-split leaves it: metadata in the first."""
    names = list(random_weights(tiny.target_spec()))
    paths = [folder / f"model-{part + 1:05}-of-{count:05}.gguf" for part in range(count)]
    for part, path in enumerate(paths):
        keys = {"split.no": part, "split.count": count, "split.tensors.count": len(names)}
        write_gguf_target(path, only=names[part::count], bare=part > 0, **keys)
    return paths


def test_a_split_file_is_read_from_its_first_part(tmp_path: Path) -> None:
    paths = split(tmp_path, 3)
    target = open_target(paths[0])
    assert target.files == paths
    for name, array in random_weights(target.spec).items():
        np.testing.assert_array_equal(target.weights[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("spoil", "named", "fragment"),
    [
        (lambda paths: None, 1, "part 2 of 3 of a split file"),
        (lambda paths: paths[2].unlink(), 0, "model-00003-of-00003.gguf: no such file"),
        (lambda paths: paths[2].write_bytes(paths[1].read_bytes()), 0, "a second time"),
        (lambda paths: write_gguf_target(paths[2], only=[], bare=True), 0, "split.tensors.count is 38"),
    ],
)
def test_a_split_file_must_be_whole(tmp_path: Path, spoil: Any, named: int, fragment: str) -> None:
    paths = split(tmp_path, 3)
    spoil(paths)
    with pytest.raises(CheckpointError, match=fragment):
        open_target(paths[named])


def test_every_type_is_dequantised_or_refused_by_name(tmp_path: Path) -> None:
    """Whatever the library knows: none may fail in the middle of a build."""
    refused = []
    for kind in GGMLQuantizationType:
        path = write_gguf_target(tmp_path / f"{kind.name}.gguf", WIDE_256, zeros=kind)
        try:
            assert np.isfinite(open_target(path).weights["embed_tokens.weight"]).all()
        except CheckpointError as error:
            assert f"tensor token_embd.weight is stored as {kind.name}" in str(error)  # noqa: PT017
            refused.append(kind.name)
    assert {"Q8_1", "F64", "I32"} <= set(refused)
    assert not {"F32", "F16", "BF16", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_XS", "MXFP4"} & set(refused)


def test_a_type_newer_than_the_library_is_named(tmp_path: Path) -> None:
    path = write_gguf_target(tmp_path / "model.gguf")
    name = b"blk.0.attn_q.weight"
    data = bytearray(path.read_bytes())
    kind = data.index(name) + len(name) + 4 + 2 * 8
    assert data[kind : kind + 4] == bytes(4)
    data[kind] = 99
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"tensor blk\.0\.attn_q\.weight has type 99, which the package gguf"):
        open_target(path)
