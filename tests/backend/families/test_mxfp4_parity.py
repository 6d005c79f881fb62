"""gpt-oss's experts in MXFP4: the names, shapes and bits that transformers makes of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_export.checkpoints.dialects.hugging_face import read_hf_target
from dspark_export.checkpoints.quantised import QuantisedSource, read_scheme
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from tests.support import tiny

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

EXPERTS = "model.layers.0.mlp.experts"
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_local_experts": 3, "num_experts_per_tok": 2}


def packed(rows: int, inner: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Every scale that keeps a number normal in float32, in which transformers computes here."""
    shape = (SIZES["num_local_experts"], rows, inner // 32)
    return {
        "blocks": random.integers(0, 256, (*shape, 16)).astype(np.uint8),
        "scales": random.integers(2, 252, shape).astype(np.uint8),
    }


@pytest.fixture(scope="module")
def experts() -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    hidden, inner = SIZES["hidden_size"], SIZES["intermediate_size"]
    return {"gate_up_proj": packed(2 * inner, hidden, random), "down_proj": packed(hidden, inner, random)}


@pytest.fixture
def source(tmp_path: Path, experts: dict[str, dict[str, np.ndarray]]) -> QuantisedSource:
    tensors = {f"{EXPERTS}.{name}_{part}": a for name, parts in experts.items() for part, a in parts.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    scheme = read_scheme(tmp_path / "config.json", {"quantization_config": {"quant_method": "mxfp4"}})
    assert scheme is not None
    return QuantisedSource(tmp_path, SafetensorsSource(tmp_path, packed=scheme.endings), scheme)


def test_bits_are_those_of_transformers(source: QuantisedSource, experts: dict[str, dict[str, np.ndarray]]) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    for name, parts in experts.items():
        blocks, scales = (torch.from_numpy(parts[part]) for part in ("blocks", "scales"))
        theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).numpy()
        ours = source.load(f"{EXPERTS}.{name}")
        np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32), err_msg=name)


def model() -> Any:
    """One layer."""
    config = transformers.GptOssConfig(
        num_hidden_layers=1, vocab_size=97, num_attention_heads=4, num_key_value_heads=2, head_dim=16, pad_token_id=0,
        **SIZES,
    )  # fmt: skip
    return transformers.GptOssForCausalLM(config)


def test_names_and_shapes_are_those_of_the_unquantised_model(source: QuantisedSource) -> None:
    with torch.device("meta"):
        state = model().state_dict()
    found = {name: tuple(tensor.shape) for name, tensor in state.items() if name in source.shapes}
    assert found == source.shapes


def test_the_family_reads_what_it_reads_unquantised(
    tmp_path: Path, source: QuantisedSource, experts: dict[str, dict[str, np.ndarray]]
) -> None:
    """Blocks [E, N, K/32, 16] give what a stack [E, K, N] gives, each number in its place."""
    plain, quantised = tmp_path / "plain", tmp_path / "quantised"
    model().save_pretrained(plain)
    tensors = load_file(plain / "model.safetensors")
    stacks = {name: source.load(name) for name in source.shapes}
    save_file(tensors | stacks, plain / "model.safetensors")
    shutil.copytree(plain, quantised)
    parts = {f"{EXPERTS}.{name}_{part}": a for name, parts in experts.items() for part, a in parts.items()}
    rest = {name: array for name, array in tensors.items() if name not in stacks}
    save_file(rest | parts, quantised / "model.safetensors")
    tiny.edit_config(quantised, quantization_config={"quant_method": "mxfp4"})
    (spec, weights), (expected, unquantised) = read_hf_target(quantised), read_hf_target(plain)
    assert spec == expected
    assert weights.shapes == unquantised.shapes
    assert weights.source.quantization == "MXFP4"
    for name, array in unquantised.items():
        np.testing.assert_array_equal(weights[name], array, err_msg=name)
