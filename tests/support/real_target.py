"""The example's target as torch has it, for tests that hold the runtime against other loops."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_engines import Bundle
from dspark_export.checkpoints import TargetCheckpoint

ROOT = Path(__file__).resolve().parents[2]


def target_file(bundle: Bundle) -> Path:
    """The file of the bundle's target; skips where it is not."""
    file = Path(os.environ.get("DSPARK_TEST_TARGET", ROOT / "build" / "models" / bundle.manifest.target.name))
    if not file.is_file():
        pytest.skip(f"{file} is not there: python examples/smollm2/fetch_target.py")
    return file


def target_model(target: TargetCheckpoint) -> Any:
    """transformers' Llama with its weights, in float32."""
    import torch
    import transformers

    spec, layer = target.spec, target.spec.shape.layers[0]
    config = transformers.LlamaConfig(
        vocab_size=spec.vocab_size, hidden_size=spec.shape.hidden_size, intermediate_size=layer.intermediate_size,
        num_hidden_layers=spec.shape.num_layers, num_attention_heads=layer.num_heads,
        num_key_value_heads=layer.num_kv_heads, rms_norm_eps=spec.shape.rms_norm_eps,
        max_position_embeddings=spec.max_positions, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": layer.rope.theta},
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    weights = {name: torch.from_numpy(np.array(target.weights[name])) for name in target.weights.shapes}
    model.model.load_state_dict(weights, strict=True)
    return model.eval()
