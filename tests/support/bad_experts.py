"""Targets whose experts are not what their config says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.support import tiny, tiny_gguf
from tests.support.bad_checkpoints import gguf, target
from tests.support.command_line import edit_tensors

MLP, EXPERT = "model.layers.0.mlp", "model.layers.0.mlp.experts"
QWEN: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "num_experts": 3,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
    "mlp_only_layers": [1, 2, 3],
}


def qwen(folder: Path, **changes: Any) -> None:
    """Turn the first layer's MLP into three experts; `lost` is left out, `odd` gets another width."""
    lost, odd = changes.pop("lost", None), changes.pop("odd", None)
    tiny.edit_config(folder, **QWEN | changes)

    def split(tensors: dict[str, np.ndarray]) -> None:
        for which in ("gate", "up", "down"):
            del tensors[f"{MLP}.{which}_proj.weight"]
            for number in range(3):
                width = 9 if number == odd else 8
                shape = (tiny.HIDDEN, width) if which == "down" else (width, tiny.HIDDEN)
                tensors[f"{EXPERT}.{number}.{which}_proj.weight"] = np.zeros(shape, np.float32)
        tensors.pop(f"{EXPERT}.{lost}.up_proj.weight", None)

    edit_tensors(folder, split)


GEMMA4: dict[str, Any] = {
    "architectures": ["Gemma4ForCausalLM"],
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size_per_layer_input": 0,
    "rope_parameters": None,
    "enable_moe_block": True,
    "num_experts": 3,
    "top_k_experts": 2,
    "moe_intermediate_size": 8,
}


def gemma4(folder: Path, **changes: Any) -> None:
    """Announce experts beside the MLPs, of which there is no tensor."""
    tiny.edit_config(folder, **GEMMA4 | changes)


def oss(path: Path, **changes: Any) -> None:
    """A GGUF file of gpt-oss, as far as its keys go; `changes` by their names without `gpt-oss.`, None removes one."""
    keys = {"expert_count": 3, "expert_used_count": 2, "expert_feed_forward_length": 8, "attention.sliding_window": 8}
    llama = tiny_gguf.metadata(tiny.target_spec())
    shared = {key.removeprefix("llama."): value for key, value in llama.items() if key.startswith("llama.")}
    named = {f"gpt-oss.{key}": value for key, value in (shared | keys | changes).items()}
    tiny_gguf.write_gguf_target(path, **{"general.architecture": "gpt-oss"} | named)


CASES = {
    "gpt-oss in GGUF: no window": gguf(
        lambda path: oss(path, **{"attention.sliding_window": None}),
        "model.gguf: missing key 'gpt-oss.attention.sliding_window'",
    ),
    "gpt-oss in GGUF: a token takes more than there are": gguf(
        lambda path: oss(path, expert_used_count=4),
        "model.gguf: gpt-oss.expert_used_count is 4, and there are 3 experts",
    ),
    "gpt-oss in GGUF: an MLP": gguf(oss, "model.gguf: missing tensor 'layers.0.mlp.experts.down_proj.bias'"),
    "parallel experts: no width": target(
        lambda t: gemma4(t, moe_intermediate_size=None),
        "config.json: enable_moe_block is true, and there is no moe_intermediate_size",
    ),
    "parallel experts: a token takes more than there are": target(
        lambda t: gemma4(t, top_k_experts=4), "config.json: top_k_experts is 4, and there are 3 experts"
    ),
    "parallel experts: none are there": target(gemma4, "missing tensor 'layers.0.experts.down_proj.weight'"),
    "experts: a token takes more than there are": target(
        lambda t: qwen(t, num_experts_per_tok=4), "config.json: num_experts_per_tok is 4, and there are 3 experts"
    ),
    "experts: one is missing": target(lambda t: qwen(t, lost=1), "missing tensor 'layers.0.mlp.experts.1.up_proj"),
    "experts: one is wider": target(
        lambda t: qwen(t, odd=2), "tensors layers.0.mlp.experts.….down_proj.weight have 2 different shapes"
    ),
}
