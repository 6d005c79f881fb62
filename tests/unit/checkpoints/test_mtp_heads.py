"""MTP heads: those of the speculators library, MiMo's inside its target, and Qwen3-Next's naming of plain layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_drafter, open_target
from dspark_export.checkpoints.dialects import drafter_dialect
from tests.support import chains, tiny
from tests.support.chain_layouts import (
    MIMO_HEAD,
    mtp_spec,
    proposing,
    write_mimo,
    write_qwen_mtp,
    write_speculators_mtp,
)


def test_one_of_the_speculators_library(tmp_path: Path) -> None:
    """Embedding first; its config is the verifier's, whose layers it does not have; tables are the target's."""
    drafter = open_drafter(write_speculators_mtp(tmp_path), tiny.target_spec())
    assert drafter.spec == mtp_spec(length=4)
    assert drafter.spec.target_layer_ids == (tiny.LAYERS,)  # the state behind the target's final norm
    for name, array in chains.tensors_of(mtp_spec()).items():
        np.testing.assert_array_equal(drafter.weights[name], array)


def test_without_a_number_of_proposals_it_drafts_three(tmp_path: Path) -> None:
    folder = write_speculators_mtp(tmp_path, speculators_config=proposing(None, "mtp"))
    assert open_drafter(folder, tiny.target_spec()).spec == mtp_spec()


def test_mimo_s_lies_in_its_target_and_takes_the_state_first(tmp_path: Path) -> None:
    """The same directory is target and drafter; the target leaves the head out, the drafter the target."""
    folder = write_mimo(tmp_path)
    target, drafter = open_target(folder), open_drafter(folder, open_target(folder).spec)
    assert drafter_dialect(folder).name == "MTP"
    assert (target.spec.architecture, target.spec.shape.layers[0].qkv_bias) == ("qwen2", True)
    assert not any("mtp" in name or "stages" in name for name in target.weights)
    assert drafter.spec == MIMO_HEAD
    assert not drafter.spec.chain.embedding_first
    for name, array in chains.tensors_of(MIMO_HEAD).items():
        np.testing.assert_array_equal(drafter.weights[name], array)


def test_norms_in_qwen3_next_s_naming_hold_gains_less_one(tmp_path: Path) -> None:
    """Taken as they are, not one draft would stand."""
    folder = write_qwen_mtp(tmp_path)
    stored = load_file(folder / "model.safetensors")
    drafter = open_drafter(folder, tiny.target_spec())
    assert drafter.spec == mtp_spec()
    for name, array in chains.tensors_of(mtp_spec()).items():
        np.testing.assert_allclose(drafter.weights[name], array, atol=1e-6)
    assert abs(stored["mtp.pre_fc_norm_hidden.weight"].mean()) < 0.1 < drafter.weights["stages.0.norm.weight"].mean()
    for norm in ("layers.0.self_attn.q_norm", "layers.0.input_layernorm", "stages.0.norm"):
        np.testing.assert_allclose(
            drafter.weights[f"{norm}.weight"] - 1, stored[f"mtp.{norm.removeprefix('stages.0.')}.weight"]
        )


def test_a_head_of_its_own_is_read(tmp_path: Path) -> None:
    folder = write_qwen_mtp(tmp_path)
    tables = tiny.random_tensors({"mtp.lm_head.weight": (tiny.VOCAB, tiny.HIDDEN)})
    tiny.save_file(load_file(folder / "model.safetensors") | tables, folder / "model.safetensors")
    assert open_drafter(folder, tiny.target_spec()).spec == replace(mtp_spec(), own_head=True)


Write = Callable[..., Path]
COMPOSITE = {"text_config": {"mtp_num_hidden_layers": 1, "attn_output_gate": True}}
REFUSED: dict[str, tuple[Write, dict[str, Any], str]] = {
    "speculators: Qwen3-Next's": (
        write_speculators_mtp,
        {"transformer_layer_config": {"model_type": "qwen3_next"}},
        "transformer_layer_config.model_type is 'qwen3_next', an MTP head whose layers are not followed",
    ),
    "speculators: layers of no kind": (write_speculators_mtp, {"transformer_layer_config": {}}, "model_type is None"),
    "speculators: two layers": (write_speculators_mtp, {"num_nextn_predict_layers": 2}, "num_nextn_predict_layers"),
    "speculators: fewer tokens": (write_speculators_mtp, {"draft_vocab_size": 64}, "unknown key 'draft_vocab_size'"),
    "MiMo: three layers": (write_mimo, {"num_nextn_predict_layers": 3}, "num_nextn_predict_layers: Input should be 1"),
    "MiMo: no key": (write_mimo, {"num_nextn_predict_layers": ...}, "missing key 'num_nextn_predict_layers'"),
    "MiMo: windows": (write_mimo, {"use_sliding_window": True}, "use_sliding_window: Input should be False"),
    "MiMo: a head that a tool left out": (
        write_mimo,
        {"head": False},
        "announces an MTP head (num_nextn_predict_layers), and holds no tensor of it",
    ),
    "Qwen3.5: gates": (write_qwen_mtp, {"attn_output_gate": True}, "attn_output_gate: Input should be False"),
    "Qwen3.5: heads turned in part": (write_qwen_mtp, {"partial_rotary_factor": 0.25}, "partial_rotary_factor"),
    "Qwen3.5: another key": (write_qwen_mtp, {"mtp_config": {"steps": 2}}, "unknown key 'mtp_config.steps'"),
    "Qwen3.5: two layers": (write_qwen_mtp, {"num_hidden_layers": 2}, "num_hidden_layers: Input should be 1"),
    "Qwen3-Next's own": (
        write_mimo,
        {"architectures": ["Qwen3NextForCausalLM"], "partial_rotary_factor": 0.25},
        "partial_rotary_factor is 0.25: an MTP head whose heads are turned in part",
    ),
    "Qwen3-Next's own, which no key announces": (
        write_mimo,
        {"architectures": ["Qwen3NextForCausalLM"], "num_nextn_predict_layers": ..., "num_experts": 512},
        "num_experts is 512: an MTP head with experts",
    ),
    "Qwen3.5's own": (
        write_mimo,
        {"architectures": ["Qwen3_5ForConditionalGeneration"], "num_nextn_predict_layers": ..., **COMPOSITE},
        "attn_output_gate is True: an MTP head with attention with an output gate",
    ),
    "GLM-4.5's": (
        write_mimo,
        {"architectures": ["Glm4MoeForCausalLM"], "n_routed_experts": 128, "partial_rotary_factor": 0.5},
        "partial_rotary_factor is 0.5: an MTP head whose heads are turned in part",
    ),
    "DeepSeek-V3's": (
        write_mimo,
        {"architectures": ["DeepseekV3ForCausalLM"], "kv_lora_rank": 512, "n_routed_experts": 256},
        "kv_lora_rank is 512: an MTP head with latent attention (MLA)",
    ),
    "another model's with experts": (
        write_mimo,
        {"architectures": ["MiMoV2FlashForCausalLM"], "n_routed_experts": 256},
        "n_routed_experts is 256: an MTP head with experts",
    ),
    "another model's": (
        write_mimo,
        {"architectures": ["NewForCausalLM"]},
        "architectures is ['NewForCausalLM'], whose MTP head is not read",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_what_says_so(tmp_path: Path, case: str) -> None:
    write, keys, message = REFUSED[case]
    folder = write(tmp_path, **keys)
    with pytest.raises(CheckpointError) as caught:
        open_drafter(folder, tiny.target_spec())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_without_such_a_head_is_no_drafter(tmp_path: Path) -> None:
    folder = write_mimo(tmp_path, head=False, architectures=["Qwen2ForCausalLM"], num_nextn_predict_layers=0)
    with pytest.raises(CheckpointError, match=r"architectures is \['Qwen2ForCausalLM'\], not a drafter that this"):
        open_drafter(folder, tiny.target_spec())
