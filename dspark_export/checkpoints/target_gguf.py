"""Targets in one GGUF file: architecture `llama`, any quantisation that the gguf library dequantises."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, dequantize

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.expected import target_tensors
from dspark_export.checkpoints.spec import DecoderShape, RopeSpec, TargetSpec
from dspark_export.checkpoints.tensors import Array, Entry, Shape, TensorSource, Weights, check_depth, check_tensors

T = TypeVar("T")

CONVERT_AGAIN = "convert the model to GGUF again with a current converter"
TOP = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class CheckedReader(GGUFReader):
    """The library's reader, made to stop at the end of the file and to be fast.

    The library reads past the end as nothing, so a damaged array length keeps it busy for ever; and it slices a
    memory map a few hundred thousand times, which a plain view of the same memory does in a fraction of the time.
    """

    def _get(self, offset: int, dtype: npt.DTypeLike, count: int = 1, override_order: Any = None) -> npt.NDArray[Any]:
        kind = np.dtype(dtype).newbyteorder(override_order or self.byte_order)
        end = int(offset) + kind.itemsize * int(count)
        if end > self.data.size:
            raise ValueError(f"it ends at byte {self.data.size}, before the {end} that it announces")
        return self.data.view(np.ndarray)[int(offset) : end].view(kind)


class GgufFile(TensorSource):
    """A GGUF file's metadata and tensors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = CheckedReader(path)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such file", hint="check the path of the GGUF file") from None
        except (ValueError, IndexError, KeyError, OSError) as error:
            raise CheckpointError(
                f"{path}: not a complete GGUF file: {str(error).splitlines()[0]:.120}", hint="fetch the file again"
            ) from None
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self._shapes = {name: tuple(int(n) for n in reversed(t.shape)) for name, t in self._tensors.items()}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def load(self, name: str) -> Array:
        tensor = self._tensors[name]
        array = dequantize(tensor.data, tensor.tensor_type)
        return np.asarray(array, dtype=np.float32).reshape(self._shapes[name])

    def get(self, key: str, default: Any = None) -> Any:
        """A metadata value, or `default`. Raises `CheckpointError` when it is damaged."""
        field = self._reader.fields.get(key)
        try:
            return default if field is None else field.contents()
        except ValueError as error:  # bytes that are no text
            raise CheckpointError(f"{self.path}: {key}: {error}", hint="fetch the file again") from None

    def require(self, key: str, kind: Callable[[Any], T]) -> T:
        """A metadata value converted by `kind`. Raises `CheckpointError` when it is missing or of another type."""
        value = self.get(key)
        if value is None:
            raise CheckpointError(f"{self.path}: missing key '{key}'", hint=CONVERT_AGAIN)
        try:
            return kind(value)
        except (TypeError, ValueError):
            raise CheckpointError(f"{self.path}: {key} is {value!r:.60}", hint=CONVERT_AGAIN) from None

    def count(self, key: str, default: int | None = None) -> int:
        """A metadata value that must be positive. Raises `CheckpointError` when it is not."""
        value = default if default is not None and self.get(key) is None else self.require(key, int)
        if value < 1:
            raise CheckpointError(f"{self.path}: {key} is {value}", hint=CONVERT_AGAIN)
        return value


def read_gguf_target(file: GgufFile) -> tuple[TargetSpec, Weights]:
    """Spec and (unloaded) weights of a Llama GGUF. Raises `CheckpointError` naming what is wrong."""
    architecture = file.require("general.architecture", str)
    if architecture != "llama":
        raise CheckpointError(
            f"{file.path}: architecture '{architecture}' is not supported from GGUF",
            hint="supported: llama; for Qwen3 point at the Hugging Face directory",
        )
    spec = _spec(file)
    weights = Weights(file.path, file, _entries(file, spec.shape))
    check_depth(file.path, weights.shapes, spec.shape.num_layers)
    check_tensors(file.path, weights.shapes, target_tensors(spec))
    return spec, weights


def _spec(file: GgufFile) -> TargetSpec:
    return TargetSpec(
        architecture="llama",
        shape=_shape(file),
        vocab_size=len(file.require("tokenizer.ggml.tokens", list)),
        max_positions=file.count("llama.context_length"),
        tied_embeddings="output.weight" not in file.shapes,
        eos_token_ids=(file.require("tokenizer.ggml.eos_token_id", int),),
        bos_token_id=file.get("tokenizer.ggml.bos_token_id"),
    )


def _shape(file: GgufFile) -> DecoderShape:
    heads, hidden = file.count("llama.attention.head_count"), file.count("llama.embedding_length")
    kv_heads = file.count("llama.attention.head_count_kv", heads)
    if heads % kv_heads:
        raise CheckpointError(
            f"{file.path}: llama.attention.head_count {heads} is not a multiple of head_count_kv {kv_heads}",
            hint=CONVERT_AGAIN,
        )
    head_dim = file.count("llama.attention.key_length", hidden // heads)
    rotary = file.count("llama.rope.dimension_count", head_dim)
    if rotary != head_dim:
        raise CheckpointError(
            f"{file.path}: llama.rope.dimension_count is {rotary}, only whole heads of {head_dim} can be rotated",
            hint="models with partial rotary embedding are not supported",
        )
    return DecoderShape(
        hidden_size=hidden,
        intermediate_size=file.count("llama.feed_forward_length"),
        num_layers=file.count("llama.block_count"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        rms_norm_eps=file.require("llama.attention.layer_norm_rms_epsilon", float),
        rope=_rope(file),
        qk_norm=False,
    )


def _rope(file: GgufFile) -> RopeSpec:
    scaling = file.get("llama.rope.scaling.type", "none")
    theta = float(file.get("llama.rope.freq_base", 10000.0))  # the GGUF specification's default
    if scaling == "linear":
        return RopeSpec(theta, "linear", factor=file.require("llama.rope.scaling.factor", float))
    if scaling != "none" or "rope_freqs.weight" in file.shapes:
        raise CheckpointError(
            f"{file.path}: rope scaling '{scaling}' is not supported from GGUF",
            hint="point at the Hugging Face directory of the same model",
        )
    return RopeSpec(theta)


def _entries(file: GgufFile, shape: DecoderShape) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for name in file.shapes:
        match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
        if match and match[2] in LAYER:
            entries[f"layers.{match[1]}.{LAYER[match[2]]}.weight"] = Entry(name, _unpermute(match[2], shape))
        else:
            stem = name.removesuffix(".weight")
            entries[f"{TOP[stem]}.weight" if stem in TOP else name] = Entry(name)
    return entries


def _unpermute(kind: str, shape: DecoderShape) -> Callable[[Array], Array] | None:
    """llama.cpp interleaves the rotary pairs of q and k; we keep Hugging Face's half-and-half layout."""
    heads = {"attn_q": shape.num_heads, "attn_k": shape.num_kv_heads}.get(kind)
    return None if heads is None else partial(_pairs_to_halves, heads=heads)


def _pairs_to_halves(weight: Array, heads: int) -> Array:
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))
