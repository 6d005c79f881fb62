"""Tiny random GGUF targets, written as llama.cpp's converter writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from dspark_export.checkpoints import TargetSpec
from dspark_export.checkpoints.dialects.gguf_drafter_file import add_metadata
from dspark_export.checkpoints.expected import target_tensors
from tests.support import tiny

CONTROL, NORMAL, UNUSED = 3, 1, 5
SPECIAL = ("<unk>", "<s>", "</s>", "<mask>")
MERGES = ("t h", "th e", "Ġ the", "Ġ Ġ", "1 2")
STEMS = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf_target(
    path: Path,
    spec: TargetSpec | None = None,
    *,
    seed: int = 0,
    quantization: GGMLQuantizationType = GGMLQuantizationType.F32,
    extra: Mapping[str, np.ndarray] | None = None,
    only: Sequence[str] | None = None,
    bare: bool = False,
    zeros: GGMLQuantizationType | None = None,
    **changes: Any,
) -> Path:
    """`tiny.write_target`'s weights as a GGUF file; matrices in `quantization`, norms in F32.

    `changes` sets metadata keys (None removes one), `extra` adds tensors. With `only` just these tensors are written,
    with `bare` no metadata but `changes`; with `zeros` the embedding is empty blocks of that type.
    """
    spec = spec or tiny.target_spec()
    writer = GGUFWriter(path, changes.pop("general.architecture", "llama"))
    for key, value in (changes if bare else metadata(spec) | changes).items():
        if value is not None:
            add_metadata(writer, key, value)
    for name, array in tiny.random_tensors(target_tensors(spec), seed).items():
        if only is not None and name not in only:
            continue
        if zeros is not None and name == "embed_tokens.weight":
            _add_zeros(writer, array.shape, zeros)
            continue
        kind = quantization if array.ndim == 2 else GGMLQuantizationType.F32
        writer.add_tensor(gguf_name(name), gguf.quantize(permuted(name, array, spec), kind), raw_dtype=kind)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_zeros(writer: GGUFWriter, shape: tuple[int, ...], kind: GGMLQuantizationType) -> None:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    plain = {"F32": np.float32, "F16": np.float16, "F64": np.float64}.get(kind.name)
    plain = plain or {f"I{bits}": f"i{bits // 8}" for bits in (8, 16, 32, 64)}.get(kind.name)
    if plain is not None:
        writer.add_tensor("token_embd.weight", np.zeros(shape, plain))
        return
    rows, columns = shape
    writer.add_tensor("token_embd.weight", np.zeros((rows, columns // block * size), np.uint8), raw_dtype=kind)


def metadata(spec: TargetSpec) -> dict[str, Any]:
    """Every key of a Llama GGUF with a byte-level tokenizer."""
    shape = spec.shape
    tokens = token_list(spec.vocab_size)
    return {
        "llama.block_count": shape.num_layers,
        "llama.context_length": spec.max_positions,
        "llama.embedding_length": shape.hidden_size,
        "llama.feed_forward_length": shape.layers[0].intermediate_size,
        "llama.attention.head_count": shape.layers[0].num_heads,
        "llama.attention.head_count_kv": shape.layers[0].num_kv_heads,
        "llama.attention.key_length": shape.layers[0].head_dim,
        "llama.attention.value_length": shape.layers[0].head_dim,
        "llama.attention.layer_norm_rms_epsilon": shape.rms_norm_eps,
        "llama.rope.dimension_count": shape.layers[0].head_dim,
        "llama.rope.freq_base": shape.layers[0].rope.theta,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [_kind(token) for token in tokens],
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": spec.eos_token_ids[0],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": tiny.TEMPLATE,
    }


def token_list(size: int) -> list[str]:
    """Control tokens, printable ASCII and merges (as in `tiny.byte_tokenizer`), other bytes while there is room."""
    ascii_bytes = [" ", "\n", *(chr(code) for code in range(33, 127))]
    spelled = gguf_bytes()
    first = [spelled[ord(char)] for char in ascii_bytes]
    merged = [merge.replace(" ", "") for merge in MERGES]
    rest = [token for token in spelled if token not in first]
    tokens = [*SPECIAL, *first, *merged, *rest][:size]
    return tokens + [f"<unused_{index}>" for index in range(size - len(tokens))]


def gguf_bytes() -> list[str]:
    """GPT-2's spelling of each of the 256 bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) if byte in plain else chr(256 + others.index(byte)) for byte in range(256)]


def gguf_name(canonical: str) -> str:
    """llama.cpp's name of a canonical target tensor."""
    stem = canonical.removesuffix(".weight")
    if not stem.startswith("layers."):
        return f"{STEMS[stem]}.weight"
    _, index, inner = stem.split(".", 2)
    return f"blk.{index}.{STEMS[inner]}.weight"


def permuted(name: str, array: np.ndarray, spec: TargetSpec) -> np.ndarray:
    """What `LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py does to q and k."""
    layer = spec.shape.layers[0]
    heads = {"q_proj": layer.num_heads, "k_proj": layer.num_kv_heads}.get(name.split(".")[-2])
    if heads is None:
        return array
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, array.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))


def _kind(token: str) -> int:
    if token in SPECIAL:
        return CONTROL
    return UNUSED if token.startswith("<unused_") else NORMAL
