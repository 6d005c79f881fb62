"""Drafters of models that are known and not read: each is refused by its name, whatever its tensors look like.

The configs are cut down from those that their makers published; sizes are the tiny target's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from safetensors.numpy import load_file, save_file

from tests.support import bad_checkpoints, tiny
from tests.support.bad_checkpoints import drafter, put
from tests.support.command_line import Case, Place
from tests.support.tiny_gguf import write_gguf_target

NESTED = {"mask_token_id": 3, "target_layer_ids": [0, 2]}
HEADS = {"markov_rank": 8, "markov_head_type": "vanilla", "enable_confidence_head": True}
V4 = {"model_type": "deepseek_v4", "hc_mult": 4, "num_nextn_predict_layers": 1, "expert_dtype": "fp4"}
V4_DSPARK = {"dspark_block_size": 5, "dspark_noise_token_id": 3, "dspark_target_layer_ids": [1, 2]}
GATED = {"enable_qwen35_gated_q_proj": True, "partial_rotary_factor": 0.25}
CONV = {"conv_kernel_size": 2, "conv_group_size": 16, "selector_rank": 8, "selector_top_k": 4}


def config(fragment: str, *architectures: str, **keys: Any) -> Case:
    """A drafter's directory whose config says this and what decoders have in common."""

    def prepare(place: Place) -> list[str]:
        folder = tiny.write_drafter(place.root / "drafter")
        common = tiny.decoder_config(tiny.drafter_spec().shape)
        names = {"architectures": list(architectures)} if architectures else {}
        (folder / "config.json").write_text(json.dumps(common | {"block_size": tiny.BLOCK} | names | keys))
        return place.build(drafter=folder)

    return Case(prepare, fragment)


def named(architecture: str, **keys: Any) -> Case:
    """One that is refused by the name of its class."""
    return config(f"architectures is ['{architecture}'], not a drafter that this", architecture, **keys)


def gguf(architecture: str, fragment: str) -> Case:
    """A GGUF file of an architecture."""

    def prepare(place: Place) -> list[str]:
        path = place.root / "drafter.gguf"
        writer = GGUFWriter(path, architecture)
        writer.add_tensor("fc.weight", np.zeros((tiny.HIDDEN, 2 * tiny.HIDDEN), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return place.build(drafter=path)

    return Case(prepare, f"drafter.gguf: architecture '{architecture}' is {fragment}")


def target(architecture: str, fragment: str, **keys: Any) -> Case:
    """A target's directory of another class."""

    def prepare(place: Place) -> list[str]:
        tiny.edit_config(place.target, architectures=[architecture], **keys)
        return place.build()

    return Case(prepare, fragment)


def other_gguf(place: Place) -> list[str]:
    """A target's file of a family that is not read."""
    return place.build(target=write_gguf_target(place.root / "m.gguf", **{"general.architecture": "gemma2"}))


def target_for_drafter(place: Place) -> list[str]:
    """A target's file where the drafter's belongs."""
    return place.build(drafter=write_gguf_target(place.root / "m.gguf"))


def prefixed(folder: Path) -> None:
    """Names of Mistral's drafters, which lie beside their target's."""
    tensors = load_file(folder / "model.safetensors")
    save_file({f"mtp_dspark.{name}": array for name, array in tensors.items()}, folder / "model.safetensors")


def more(name: str, *shape: int) -> Case:
    """DeepSpec's drafter with a tensor of another design."""
    return drafter(put(name, np.zeros(shape, np.float32)), f"drafter: unknown tensor '{name}'")


RECOGNITION: dict[str, Case] = {
    "eagle3: DeepSpec's, of blocks' tensors": config(
        "num_hidden_layers: an Eagle3 drafter of DeepSpec has one layer",
        "Qwen3Eagle3Model",
        target_layer_ids=[0, 1, 2],
        ttt_length=7,
    ),
    "eagle: its first version": named("LlamaForCausalLMEagle", num_hidden_layers=1, model_type="llama"),
    "eagle3: without a name of its own, in two layers": named("LlamaForCausalLM", draft_vocab_size=64),
    "eagle3: SpecForge's P-EAGLE": named("PEagleDraftModel", draft_vocab_size=64, model_type="llama"),
    "eagle3: of latent attention": named("DeepseekV3ForCausalLMEagle3", draft_vocab_size=64, kv_lora_rank=512),
    "eagle3: in GGUF": gguf("eagle3", "an Eagle3 drafter, which is not read from GGUF"),
    "mtp: a target's own": config(
        "architectures is ['Qwen3NextForCausalLM'], whose MTP head is not read",
        "Qwen3NextForCausalLM",
        num_nextn_predict_layers=1,
    ),
    "deepseek-v4: its stages": named("DeepseekV4ForCausalLM", **V4, **V4_DSPARK),
    "deepseek-v4: keys that are null": named("DeepseekV4ForCausalLM", **V4, **dict.fromkeys(V4_DSPARK)),
    "deepseek-v4: without a class": config(
        "architectures is None and model_type 'deepseek_v4', not a drafter", **V4, **V4_DSPARK
    ),
    "deepseek-v4: its successor": named("DeepseekV41ForCausalLM", model_type="deepseek_v41", hc_mult=4),
    "deepseek-v4: SpecForge's": named("DSparkV4DraftModel", dflash_config=NESTED | {"projector_type": "dspark_v4"}),
    "deepseek-v4: NeMo's": named("DeepseekV4DSparkModel", **HEADS, target_layer_ids=[0, 2], mask_token_id=3),
    "deepseek-v4: as a target": target("DeepseekV4ForCausalLM", "architectures is ['DeepseekV4ForCausalLM']", **V4),
    "other drafters: experts": config(
        "n_routed_experts is 8: a drafter with experts, which is not read",
        "DSparkDraftModel",
        dflash_config=NESTED | HEADS | {"projector_type": "dspark"},
        n_routed_experts=8,
    ),
    "other drafters: gates of Qwen3.5": named("Qwen35DSparkModel", **HEADS, **GATED, **NESTED),
    "other drafters: gates by DeepSpec's name": drafter(
        put("layers.0.self_attn.q_proj.weight", np.zeros((128, 48), np.float32)),
        "tensor layers.0.self_attn.q_proj.weight has shape [128, 48], the config asks for [64, 48]",
    ),
    "other drafters: Lfm2's": named(
        "Lfm2DSparkDraftModel", dflash_config=NESTED | HEADS | {"projector_type": "dspark"}, rope_is_neox_style=False
    ),
    "other drafters: rotary pairs that are neighbours": config(
        "rope_is_neox_style: Input should be True", "DFlashDraftModel", dflash_config=NESTED, rope_is_neox_style=False
    ),
    "other drafters: DFlash2": named("DFlash2DraftModel", dflash_config=NESTED | CONV),
    "other drafters: DFlash2 by DFlash's name": config(
        "unknown key 'dflash_config.conv_kernel_size'", "DFlashDraftModel", dflash_config=NESTED | CONV
    ),
    "other drafters: DFlash with a Markov head": config(
        "unknown key 'dflash_config.markov_rank'", "DFlashDraftModel", dflash_config=NESTED | HEADS, block_size=16
    ),
    "other drafters: DFlash without dflash_config": named("DFlashDraftModel", **NESTED),
    "other drafters: no taps, and none guessed": config(
        "missing key 'dflash_config.target_layer_ids'", "DFlashDraftModel", dflash_config={"mask_token_id": 3}
    ),
    "other drafters: transformers' own": named("MuseGlimmerAssistantModel", model_type="muse_glimmer_assistant"),
    "other drafters: Domino": named("DominoDraftModel", dflash_config=NESTED | {"projector_type": "domino"}),
    "other drafters: Mistral's": drafter(prefixed, "drafter: missing tensor 'confidence_head.proj.bias'"),
    "other drafters: Laguna's gates": more("layers.0.self_attn.g_proj.weight", 64, 48),
    "other drafters: Nemotron's sinks": more("layers.0.self_attn.sinks", 4),
    "other drafters: Kimi's norms of taps": more("fc_norm.0.weight", 48),
    "other drafters: Domino's heads": more("prefix_gru.weight_ih_l0", 24, 48),
    "gguf drafter: a fork's": gguf("dspark", "a fork's layout"),
    "gguf drafter: an older fork's": gguf("dflash-draft", "a fork's layout"),
    "gguf drafter: a target": Case(target_for_drafter, "architecture 'llama' is not a drafter that this version reads"),
    "gguf drafter: another family": gguf("gemma4-assistant", "not a drafter that this version reads"),
    "gguf: another family": Case(other_gguf, "m.gguf: architecture 'gemma2' is not supported from GGUF"),
    "target: Gemma by Llama's name": bad_checkpoints.target(
        put("model.layers.0.pre_feedforward_layernorm.weight", np.zeros(48, np.float32)),
        "target: unknown tensor 'layers.0.pre_feedforward_layernorm.weight'",
    ),
    "target: Gemma 2": target("Gemma2ForCausalLM", "architectures is ['Gemma2ForCausalLM']"),
}
