"""Targets whose experts are not what their config says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.support import tiny
from tests.support.bad_checkpoints import target
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


CASES = {
    "experts: a token takes more than there are": target(
        lambda t: qwen(t, num_experts_per_tok=4), "config.json: num_experts_per_tok is 4, and there are 3 experts"
    ),
    "experts: one is missing": target(lambda t: qwen(t, lost=1), "missing tensor 'layers.0.mlp.experts.1.up_proj"),
    "experts: one is wider": target(
        lambda t: qwen(t, odd=2), "tensors layers.0.mlp.experts.….down_proj.weight have 2 different shapes"
    ),
}
