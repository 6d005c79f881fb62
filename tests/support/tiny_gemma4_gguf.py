"""transformers' Gemma 4 as llama.cpp's converter writes it (conversion/gemma.py, `Gemma4Model`).

Names come from the gguf library's own table, and keys from its writer: neither knows ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFWriter

from dspark_export.checkpoints.dialects.gguf_drafter_file import add_metadata

ARCHITECTURE = "gemma4"
NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
TURNS = {"<|tool_response>": USER_DEFINED, "<|channel>": USER_DEFINED, "<|turn>": CONTROL, "<turn|>": CONTROL}
PIECES = ["\n\n", "\n\n\n", "▁▁", "▁a", "th", "▁t", "▁th", "▁the", "</", "</s", "</s>", "<s", "<s>", "ab", "éa"]
LETTERS = ["\n", "▁", *"<>/|abcehrst", "é", "1", "2"]
MERGES = [
    "\n\n \n", "\n \n\n", "\n \n", "▁ ▁", "▁ a", "t h", "▁ th", "▁t h", "▁th e", "▁ t", "a b", "é a",
    "< s", "</ s", "< /", "</s >", "<s >",
]  # fmt: skip
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|turn>{{ m['role'] }}\n{{ m['content'] }}<turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)
STANDING = 1e30


def write_gemma4_gguf(
    path: Path,
    config: Mapping[str, Any],
    state: Mapping[str, np.ndarray],
    *,
    lost: Collection[str] = (),
    **changes: Any,
) -> Path:
    """A model in float32 by its config.json and its tensors' names in transformers.

    `lost` names tensors of the file that are left out, `changes` sets metadata keys (None removes one).
    """
    writer = GGUFWriter(path, ARCHITECTURE)
    given = {f"{ARCHITECTURE}.{key}": value for key, value in keys(config).items()}
    for key, value in (given | tokenizer(config["vocab_size"]) | changes).items():
        if value is not None:
            add_metadata(writer, key, value)
    for name, array in tensors(config, state):
        if name not in lost:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def of_model(model: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Config and tensors of a model of transformers."""
    return model.config.to_dict(), {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """`Gemma4Model.set_gguf_parameters`, and what it inherits."""
    depth, shared = config["num_hidden_layers"], config["num_kv_shared_layers"]
    slides = [kind == "sliding_attention" for kind in config["layer_types"]]
    width, heads = config["intermediate_size"], config["num_key_value_heads"]
    wide = 2 if config["use_double_wide_mlp"] else 1
    found: dict[str, Any] = {
        "block_count": depth,
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": [width] * (depth - shared) + [wide * width] * shared if wide > 1 else width,
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": heads,
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "attention.sliding_window": config["sliding_window"],
        "attention.sliding_window_pattern": slides,
        "attention.shared_kv_layers": shared,
        "embedding_length_per_layer_input": config.get("hidden_size_per_layer_input") or 0,
        "rope.freq_base": float(config["rope_parameters"]["full_attention"]["rope_theta"]),
        "rope.freq_base_swa": float(config["rope_parameters"]["sliding_attention"]["rope_theta"]),
        "final_logit_softcapping": config["final_logit_softcapping"],
    }
    found |= head_widths(config)
    if (others := of_full_layers(config, "num_key_value_heads")) != heads:
        found["attention.head_count_kv"] = [heads if one else others for one in slides]
    if config.get("num_experts") is not None:
        found |= {"expert_count": config["num_experts"], "expert_used_count": config["top_k_experts"]}
        found["expert_feed_forward_length"] = config["moe_intermediate_size"]
    return found


def head_widths(config: Mapping[str, Any]) -> dict[str, int]:
    """Of full layers without an ending, of sliding ones with `_swa`."""
    names = ("attention.key_length", "attention.value_length", "rope.dimension_count")
    widths = {"": of_full_layers(config, "head_dim"), "_swa": config["head_dim"]}
    return {f"{name}{ending}": width for ending, width in widths.items() for name in names}


def of_full_layers(config: Mapping[str, Any], key: str) -> int:
    """What `per_layer_config` of transformers 5.23 and later says of the first full layer."""
    first = config["layer_types"].index("full_attention")
    by_layer = {int(layer): own for layer, own in config["per_layer_config"].items()}
    return int(by_layer.get(first, {}).get(key, config[key]))


def tensors(config: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """`filter_tensors`, `modify_tensors` and `generate_extra_tensors`: nothing is added to a norm.

    A name of llama.cpp stays as it is.
    """
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA4, config["num_hidden_layers"])
    moved = {".router.scale": "ffn_gate_inp.scale", ".router.per_expert_scale": "ffn_down_exps.scale"}
    for name, array in state.items():
        if name == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        if name.startswith("blk."):
            yield name, array
            continue
        ending = next((ending for ending in moved if name.endswith(ending)), None)
        if ending is not None:
            yield f"blk.{name.split('.')[2]}.{moved[ending]}", array
            continue
        bare = name.endswith("layer_scalar") or (".experts." in name and not name.endswith(".weight"))
        found = names.get_name(f"{name}.weight" if bare else name, try_suffixes=(".weight", ".bias"))
        assert found is not None, name
        yield found, array
    yield "rope_freqs.weight", divisors(config)


def divisors(config: Mapping[str, Any]) -> np.ndarray:
    """[D/2]: pairs that turn, then those that do not."""
    width = of_full_layers(config, "head_dim")
    turning = int(width * config["rope_parameters"]["full_attention"]["partial_rotary_factor"] / 2)
    return np.array([1.0] * turning + [STANDING] * (width // 2 - turning), np.float32)


def tokenizer(size: int) -> dict[str, Any]:
    """Keys of a vocabulary of `size`: pieces and letters, bytes as far as they fit."""
    kinds = dict.fromkeys(SPECIAL, CONTROL) | TURNS | dict.fromkeys([*PIECES, *LETTERS], NORMAL)
    kinds |= {f"<0x{byte:02X}>": BYTE for byte in range(256)}
    tokens = [*kinds][:size]
    tokens += [f"<unused{index}>" for index in range(size - len(tokens))]
    named = {
        "model": "gemma4",
        "tokens": tokens,
        "scores": [-1000.0] * size,
        "token_type": [kinds.get(token, NORMAL) for token in tokens],
        "merges": MERGES,
        "eos_token_id": tokens.index("<eos>"),
        "bos_token_id": tokens.index("<bos>"),
        "unknown_token_id": tokens.index("<unk>"),
        "padding_token_id": tokens.index("<pad>"),
        "add_space_prefix": False,
        "add_bos_token": True,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in named.items()} | {"tokenizer.chat_template": TEMPLATE}
