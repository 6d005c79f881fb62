"""Tiny chains as DeepSpec, the speculators library, MiMo's maker and SpecForge's MTP trainer save them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from dspark_export.checkpoints import DecoderShape, DrafterSpec, TargetSpec
from dspark_export.checkpoints.dialects.deepspec_config import Gemma4Eagle3Config
from dspark_export.checkpoints.dialects.mtp_names import ONES, QWEN
from dspark_export.checkpoints.expected import target_tensors
from tests.support import chains, gemma4_drafters, tiny

DEPTH = 8
"""Layers of a target that five taps fit into."""
FIVE, TTT = [0, 1, 2, 4, 6], 7
DEEPSPEC_KEYS = {
    "target_layer_ids": FIVE, "num_target_layers": DEPTH, "ttt_length": TTT, "step_loss_decay": 0.8,
    "draft_num_hidden_layers": 1, "num_hidden_layers": 1, "layer_types": ["full_attention"],
    "target_model_name_or_path": "somewhere", "tie_word_embeddings": False, "num_key_value_heads": 2,
}  # fmt: skip
OF_BLOCKS = {
    "block_size", "mask_token_id", "markov_rank", "markov_head_type", "enable_confidence_head",
    "confidence_head_with_markov", "num_anchors",
}  # fmt: skip
ENTERED = [tap + 1 for tap in chains.TAPS]
"""The speculators library's ids of the layers that `chains.TAPS` come out of."""


def deep_target() -> TargetSpec:
    """The tiny target with more layers."""
    return replace(tiny.target_spec(), shape=tiny.shape(DEPTH, qk_norm=False))


def deepspec_spec(name: str = "qwen3", **layer: Any) -> DrafterSpec:
    """What `write_deepspec` of this name reads to; `layer` are other fields of Gemma 4's."""
    spec = replace(
        chains.with_tables(chains.spec()), block_size=TTT, target_layer_ids=tuple(FIVE), num_target_layers=DEPTH
    )
    if name == "qwen3":
        return replace(spec, shape=tiny.shape(1, qk_norm=True))
    config = gemma4_drafters.TINY
    scale = float(np.sqrt(np.float32(tiny.HIDDEN)))
    return replace(spec, shape=_gemma4_shape(config, layer), embedding_scale=scale, logit_softcap=3.0)


def _gemma4_shape(config: dict[str, Any], changes: dict[str, Any]) -> DecoderShape:
    shape = Gemma4Eagle3Config.model_validate(config | DEEPSPEC_KEYS).drafter_shape(Path("config.json"))
    return tiny.with_layers(shape, **changes)


def write_deepspec(folder: Path, name: str = "qwen3", *, without: tuple[str, ...] = (), **keys: Any) -> Path:
    """An Eagle3 directory as DeepSpec saves it, with other `keys`, `without` some tensors."""
    if name == "qwen3":
        config = tiny.decoder_config(tiny.shape(1, qk_norm=True)) | {"model_type": "qwen3"}
        config |= {"architectures": ["Qwen3Eagle3Model"]}
    else:
        config = {key: value for key, value in gemma4_drafters.TINY.items() if key not in OF_BLOCKS}
        config |= {"architectures": ["Gemma4Eagle3Model"]}
    spec = deepspec_spec(name)
    tensors = chains.tensors_of(spec)
    scalars = {key: np.full_like(x, 0.7) for key, x in tensors.items() if key.endswith("layer_scalar")}
    kept = {key: x for key, x in (tensors | scalars).items() if key not in without}
    return write(folder, config | DEEPSPEC_KEYS | keys, kept)


def speculators_spec(kind: str = "llama", *, reduced: bool = True, layers: int = 1, **chain: Any) -> DrafterSpec:
    """What `write_speculators` reads to."""
    spec = replace(chains.spec(layers=layers, **chain), own_head=True, draft_vocabulary=chains.KEPT if reduced else ())
    return replace(spec, shape=tiny.shape(layers, qk_norm=kind == "qwen3"))


def write_speculators(
    folder: Path, spec: DrafterSpec | None = None, names: Callable[[str], str] = str, **keys: Any
) -> Path:
    """An eagle3 directory of the speculators library, its tensors called by `names`, with other `keys`."""
    spec = spec or speculators_spec()
    chain = spec.chain
    assert chain is not None, "this layout is for chains"
    layers = tiny.decoder_config(spec.shape)
    config = {
        "architectures": ["Eagle3DraftModel"], "auto_map": {"": "config.Eagle3SpeculatorConfig"}, "dtype": "float32",
        "speculators_model_type": "eagle3", "speculators_version": "0.9.0", "tie_word_embeddings": False,
        "transformers_version": "5.10.2", "embed_requires_grad": False, "target_hidden_size": None,
        "draft_vocab_size": spec.draft_vocab_size, "eagle_aux_hidden_state_layer_ids": ENTERED,
        "norm_before_residual": chain.residual_normed, "norm_output": chain.state_normed,
        "norm_before_fc": chain.tap_norm == "whole", "fc_norm": chain.tap_norm == "each",
        "speculators_config": proposing(chains.LENGTH),
        "transformer_layer_config": layers | {"model_type": "qwen3" if spec.shape.layers[0].qk_norm else "llama"},
    }  # fmt: skip
    tensors = {names(name): x for name, x in chains.tensors_of(spec).items()}
    if spec.draft_vocabulary:
        flags = np.zeros(tiny.VOCAB, bool)
        flags[list(chains.KEPT)] = True
        tensors |= {"d2t": np.array(chains.KEPT) - np.arange(len(chains.KEPT)), "t2d": flags}
    return write(folder, changed(config, keys), tensors)


def proposing(tokens: int | None, algorithm: str = "eagle3") -> dict[str, Any]:
    """`speculators_config` of a drafter that proposes so many."""
    method = {"proposal_type": "greedy", "speculative_tokens": tokens}
    return {"algorithm": algorithm, "default_proposal_method": "greedy", "proposal_methods": [method]}


def mtp_spec(*, qk_norm: bool = True, length: int = 3, embedding_first: bool = True, **layer: Any) -> DrafterSpec:
    """An MTP head of one layer whose state is normed."""
    spec = replace(chains.spec("mtp", state_normed=True, embedding_first=embedding_first), block_size=length)
    return replace(spec, shape=tiny.with_layers(tiny.shape(1, qk_norm=qk_norm), **layer))


def write_speculators_mtp(folder: Path, **keys: Any) -> Path:
    """An mtp directory of the speculators library: `transformer_layer_config` is the verifier's."""
    layers = tiny.decoder_config(tiny.shape(tiny.LAYERS, qk_norm=True)) | {"model_type": "qwen3"}
    config = {
        "architectures": ["MTPDraftModel"], "speculators_model_type": "mtp", "speculators_version": "0.9.0",
        "num_nextn_predict_layers": 1, "tie_word_embeddings": False, "transformers_version": "5.10.2",
        "speculators_config": proposing(4, "mtp"), "transformer_layer_config": layers,
    }  # fmt: skip
    tensors = {stage_names(name): x for name, x in chains.tensors_of(mtp_spec()).items()}
    tensors["verifier_lm_head.weight"] = np.full((tiny.VOCAB, tiny.HIDDEN), np.nan, np.float32)  # saved, and unused
    return write(folder, changed(config, keys), tensors)


def stage_names(canonical: str) -> str:
    """`mtp_layers.0.…` of an MTP head's tensor."""
    known = {ours: theirs for theirs, ours in ONES.items()}
    kind, _, rest = canonical.partition(".0.")
    part = rest.partition(".")[0]
    return f"mtp_layers.0.{rest.replace(part, known[part], 1)}" if kind == "stages" else f"mtp_layers.0.{rest}"


MIMO_HEAD = mtp_spec(qk_norm=False, embedding_first=False, qkv_bias=True)


def write_mimo(folder: Path, *, head: bool = True, **keys: Any) -> Path:
    """MiMo, target and head in one directory."""
    spec = replace(tiny.target_spec(tied=False), shape=tiny.with_layers(tiny.shape(4, qk_norm=False), qkv_bias=True))
    tiny.write_target(folder, tiny.target_spec(tied=False))
    config = json.loads((folder / "config.json").read_text()) | {
        "architectures": ["MiMoForCausalLM"], "model_type": "mimo", "num_nextn_predict_layers": 1,
        "attention_bias": True, "use_sliding_window": False,
    }  # fmt: skip
    tensors = {tiny.hf_name(name): x for name, x in tiny.random_tensors(target_tensors(spec)).items()}
    heads = {f"model.{stage_names(name)}": x for name, x in chains.tensors_of(MIMO_HEAD).items()}
    return write(folder, changed(config, keys), tensors | (heads if head else {}))


def write_qwen_mtp(folder: Path, **keys: Any) -> Path:
    """SpecForge's MTP head in Qwen3-Next's naming: norms hold their gains less one."""
    config = tiny.decoder_config(tiny.shape(1, qk_norm=True)) | {
        "architectures": ["Qwen3_5MTPDraftModel"], "auto_map": {"AutoModel": "mtp.Qwen3_5MTPDraftModel"},
        "model_type": "qwen3", "mtp_config": {"share_lm_head": True}, "rope_scaling": None, "sliding_window": None,
        "use_sliding_window": False, "tie_word_embeddings": True,
    }  # fmt: skip
    known = {ours: theirs for theirs, ours in QWEN.items()}
    tensors = {}
    for canonical, array in chains.tensors_of(mtp_spec()).items():
        kind, _, rest = canonical.partition(".0.")
        part = rest.partition(".")[0]
        name = f"mtp.{rest.replace(part, known[part], 1)}" if kind == "stages" else f"mtp.{canonical}"
        tensors[name] = array - 1 if name.endswith("norm.weight") or "pre_fc_norm" in name else array
    return write(folder, changed(config, keys), tensors)


def changed(config: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """`config` with other values; `...` takes a key out."""
    return {key: value for key, value in (config | keys).items() if value is not ...}


def write(folder: Path, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    """A directory of both."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, folder / "model.safetensors")
    return folder
