"""The target: its weights as training needs them, and the layers whose outputs drafters read."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from training.problems import TrainingError


def fast_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16 where the processor or the GPU multiplies it fast, else float32."""
    if device != "cpu":
        return torch.bfloat16
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8") if info.exists() else ""
    return torch.bfloat16 if "amx_bf16" in flags or "avx512_bf16" in flags else torch.float32


def open_target(folder: Path, dtype: torch.dtype, device: str = "cpu") -> LlamaForCausalLM:
    """The model in a Hugging Face directory, ready for inference."""
    if not (folder / "config.json").is_file():
        raise TrainingError(f"{folder}: no config.json", hint="give a target's Hugging Face directory")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    if not isinstance(model, LlamaForCausalLM):
        raise TrainingError(
            f"{folder}: {type(model).__name__} is no Llama-type target", hint="these are trained for only"
        )
    weights: Any = model
    weights.to(device).eval().requires_grad_(False)
    return model


def open_tokenizer(folder: Path) -> Any:
    """Its tokenizer, padding on the left as generation wants it."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token_id = 0
    return tokenizer


def unpack(gguf: Path, out: Path) -> None:
    """Write the model in a GGUF file, dequantised, as a Hugging Face directory with its tokenizer."""
    if not gguf.is_file():
        raise TrainingError(f"{gguf}: no such file", hint="fetch_target.py fetches the example's")
    if find_spec("accelerate") is None:
        raise TrainingError("transformers reads GGUF files with accelerate", hint="pip install accelerate")
    where: dict[str, Any] = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    loaded: Any = AutoModelForCausalLM.from_pretrained(**where)
    keys = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    model: Any = LlamaForCausalLM(LlamaConfig(**keys))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=0)
    tokenizer.save_pretrained(out)
    model.save_pretrained(out)


def tap_layers(layers: int, taps: int) -> list[int]:
    """Evenly spread layers whose outputs are stored, from the second to the last but one (DeepSpec's choice)."""
    return [1 + round(i * (layers - 3) / (taps - 1)) for i in range(taps)]


def group_count(config: LlamaConfig) -> int:
    """Key/value heads."""
    return int(config.num_key_value_heads or config.num_attention_heads)


def layer_dim(config: LlamaConfig) -> int:
    """The width of a head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def rope_theta(config: LlamaConfig) -> float:
    """The base of its rotary embedding; scaled variants are not trained here."""
    rope: dict[str, Any] = dict(config.rope_parameters or {})
    return float(rope["rope_theta"])


@torch.no_grad()
def last_states(model: LlamaForCausalLM, tap: Tensor) -> Tensor:
    """[B, S, H]: the states after the final norm, from the last tap [B, S, H].

    The last tap is the output of the last layer but one, so one layer and the norm give what a whole pass would.
    """
    positions = torch.arange(tap.shape[1], device=tap.device)[None]
    states = tap.to(model.lm_head.weight.dtype)
    angles = model.model.rotary_emb(states, positions)
    out = model.model.layers[-1](states, attention_mask=None, position_ids=positions, position_embeddings=angles)
    return model.model.norm(out[0] if isinstance(out, tuple) else out)
