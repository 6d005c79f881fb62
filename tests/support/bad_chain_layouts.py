"""Chains in the layouts of several tools that must be refused, each with what the error's line says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter

from tests.support import chains, tiny
from tests.support.chain_layouts import (
    proposing,
    write_deepspec,
    write_mimo,
    write_qwen_mtp,
    write_speculators,
    write_speculators_mtp,
)
from tests.support.command_line import Case, Place, edit_tensors

TAPS = "eagle_aux_hidden_state_layer_ids"


def chain(write: Callable[..., Path], fragment: str, **keys: Any) -> Case:
    """One that `write` writes with other `keys`."""

    def prepare(place: Place) -> list[str]:
        return place.build(drafter=write(place.root / "drafter", **keys))

    return Case(prepare, fragment)


def eagle3(fragment: str, **tensors: np.ndarray | None) -> Case:
    """One of the speculators library with other tensors; None: without it. `_` in a name stands for a dot."""

    def prepare(place: Place) -> list[str]:
        folder = write_speculators(place.root / "drafter")
        names = {name.replace("__", "."): array for name, array in tensors.items()}
        edit_tensors(folder, lambda held: held.update({name: x for name, x in names.items() if x is not None}))
        edit_tensors(folder, lambda held: [held.pop(name) for name, x in names.items() if x is None])
        return place.build(drafter=folder)

    return Case(prepare, fragment)


def layers(**keys: Any) -> dict[str, Any]:
    """`transformer_layer_config` with these keys."""
    usual = tiny.decoder_config(tiny.shape(1, qk_norm=False)) | {"model_type": "llama"}
    return {"transformer_layer_config": usual | keys}


def head_in_gguf(place: Place) -> list[str]:
    """A target's file that holds an MTP head."""
    path = place.root / "drafter.gguf"
    writer = GGUFWriter(path, "glm4moe")
    writer.add_uint32("glm4moe.nextn_predict_layers", 1)
    writer.add_tensor("blk.46.nextn.eh_proj.weight", np.zeros((tiny.HIDDEN, 2 * tiny.HIDDEN), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return place.build(drafter=path)


CHAIN_LAYOUTS = {
    "eagle3, DeepSpec: three taps": chain(
        write_deepspec, "target_layer_ids is [0, 1, 2], and DeepSpec's Eagle3 taps 5", target_layer_ids=[0, 1, 2]
    ),
    "eagle3, DeepSpec: two layers": chain(
        write_deepspec, "num_hidden_layers: an Eagle3 drafter of DeepSpec has one layer", num_hidden_layers=2
    ),
    "eagle3, DeepSpec: another target's": chain(write_deepspec, "drafter has num_target_layers 8, the target has 4"),
    "eagle3, DeepSpec: Gemma 4's on a Llama": chain(
        lambda folder: write_deepspec(folder, "gemma4"), "drafter has num_target_layers 8, the target has 4"
    ),
    "eagle3, speculators: no word of the residual": chain(
        write_speculators, "missing key 'norm_before_residual'", norm_before_residual=..., speculators_version=...
    ),
    "eagle3, speculators: taps normed twice": chain(
        write_speculators, "norm_before_fc and fc_norm are both true", norm_before_fc=True, fc_norm=True
    ),
    "eagle3, speculators: another width": chain(
        write_speculators, "target_hidden_size is 64 and hidden_size 48", target_hidden_size=64
    ),
    "eagle3, speculators: too many taps": chain(
        write_speculators, f"fc.weight takes 3 taps, and {TAPS} is [0, 1, 2, 3]", **{TAPS: [0, 1, 2, 3]}
    ),
    "eagle3, speculators: no taps of a small target": chain(
        write_speculators, "and a target of 4 layers has no usual ones", **{TAPS: None}
    ),
    "eagle3, speculators: the last layer tapped": chain(
        write_speculators, f"{TAPS} taps 4, which is not below the target's last layer", **{TAPS: [1, 2, 4]}
    ),
    "eagle3, speculators: P-EAGLE's mask": chain(write_speculators, "unknown key 'mask_token_id'", mask_token_id=3),
    "eagle3, speculators: P-EAGLE's tensor": eagle3(
        "unknown tensor 'mask_hidden'", mask_hidden=np.ones((1, 1, 3 * tiny.HIDDEN), np.float32)
    ),
    "eagle3, speculators: Kimi's latent attention": chain(
        write_speculators, "model_type: Input should be 'llama' or 'qwen3'", **layers(model_type="deepseek_v3")
    ),
    "eagle3, speculators: layers that slide": chain(
        write_speculators,
        "layer_types.0: Input should be 'full_attention'",
        **layers(layer_types=["sliding_attention"]),
    ),
    "eagle3, speculators: a chain too long": chain(
        write_speculators, "a chain of 17 drafts", speculators_config=proposing(17)
    ),
    "eagle3, speculators: no map": eagle3("draft_vocab_size is 43, but no tensor d2t", d2t=None),
    "eagle3, speculators: ids where offsets belong": eagle3(
        "d2t does not give 43 different ids below 128", d2t=np.array(chains.KEPT)
    ),
    "eagle3, speculators: no fc": eagle3("fc.weight is missing, and takes taps of 48", fc__weight=None),
    "mtp, speculators: gated layers": chain(
        write_speculators_mtp,
        "model_type is 'qwen3_5_text', an MTP head whose layers are not followed",
        **layers(model_type="qwen3_5_text"),
    ),
    "mtp, speculators: two": chain(write_speculators_mtp, "num_nextn_predict_layers", num_nextn_predict_layers=2),
    "mtp: MiMo's without its tensors": chain(write_mimo, "and holds no tensor of it", head=False),
    "mtp: MiMo's on another target": chain(
        write_mimo, "drafter has vocab_size 130, the target has 128", vocab_size=130
    ),
    "mtp: Qwen3.5's gates": chain(write_qwen_mtp, "attn_output_gate: Input should be False", attn_output_gate=True),
    "mtp: Qwen3.5's heads": chain(write_qwen_mtp, "partial_rotary_factor", partial_rotary_factor=0.25),
    "mtp: GLM's": chain(
        write_mimo,
        "partial_rotary_factor is 0.5: an MTP head whose heads are turned in part",
        architectures=["Glm4MoeForCausalLM"],
        partial_rotary_factor=0.5,
    ),
    "mtp: DeepSeek-V3's": chain(
        write_mimo,
        "kv_lora_rank is 512: an MTP head with latent attention (MLA)",
        architectures=["DeepseekV3ForCausalLM"],
        kv_lora_rank=512,
    ),
    "mtp: in GGUF": Case(head_in_gguf, "glm4moe.nextn_predict_layers says that an MTP head lies inside its target's"),
}
