"""Targets and drafters that must be refused, each with what the error's line says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import tiny
from tests.support.command_line import Case, Place, cut, edit_tensors
from tests.support.tiny_gguf import write_gguf_target

WEIGHTS, CONFIG = "model.safetensors", "config.json"
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"


def target(change: Callable[[Path], Any], fragment: str) -> Case:
    """A Hugging Face target after `change`."""

    def prepare(place: Place) -> list[str]:
        change(place.target)
        return place.build()

    return Case(prepare, fragment)


def gguf(change: Callable[[Path], Any], fragment: str) -> Case:
    """A GGUF target after `change`."""

    def prepare(place: Place) -> list[str]:
        path = write_gguf_target(place.root / "model.gguf")
        change(path)
        return place.build(target=path)

    return Case(prepare, fragment)


def drafter(change: Callable[[Path], Any], fragment: str, kind: str = "vanilla") -> Case:
    """A drafter after `change`."""

    def prepare(place: Place) -> list[str]:
        folder = tiny.write_drafter(place.root / "drafter", tiny.drafter_spec(kind))
        change(folder)
        return place.build(drafter=folder)

    return Case(prepare, fragment)


def config(fragment: str, **changes: Any) -> Case:
    """A drafter with other config values; the fragment follows the file's name."""
    return drafter(lambda folder: tiny.edit_config(folder, **changes), f"drafter/config.json: {fragment}")


def without(name: str, kind: str = "vanilla") -> Case:
    """A drafter that lacks a tensor."""
    return drafter(
        lambda folder: edit_tensors(folder, lambda t: t.pop(name)), f"drafter: missing tensor '{name}'", kind
    )


def put(name: str, array: np.ndarray) -> Callable[[Path], None]:
    """Add or replace a tensor."""
    return lambda folder: edit_tensors(folder, lambda tensors: tensors.update({name: array}))


REQUIRED_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
    "max_position_embeddings", "rms_norm_eps", "hidden_act", "num_target_layers", "block_size", "mask_token_id",
    "target_layer_ids", "markov_rank", "markov_head_type", "enable_confidence_head", "confidence_head_with_markov",
    "layer_types",
)  # fmt: skip
TARGET_KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")

TARGETS = {
    "target: nothing there": Case(lambda p: p.build(target=p.root / "no"), "/no: no such file or directory"),
    "target: no config": target(lambda t: (t / CONFIG).unlink(), "target/config.json: no such file"),
    "target: config cut": target(lambda t: cut(t / CONFIG, 50), "target/config.json: not JSON: "),
    "target: no weights": target(lambda t: (t / WEIGHTS).unlink(), f"target/{WEIGHTS}: no such file"),
    "target: weights cut": target(lambda t: cut(t / WEIGHTS, -1), f"target/{WEIGHTS}: not a complete safetensors"),
    "target: weights' header cut": target(lambda t: cut(t / WEIGHTS, 100), f"{WEIGHTS}: not a complete safetensors"),
    "target: weights empty": target(lambda t: cut(t / WEIGHTS, 0), f"{WEIGHTS}: not a complete safetensors"),
    "target: other architecture": target(
        lambda t: tiny.edit_config(t, architectures=["GPT2LMHeadModel"]), "target/config.json: architectures is ['GPT2"
    ),
    "target: no architecture": target(lambda t: tiny.edit_config(t, architectures=None), "architectures is None"),
    "target: rope that is unknown": target(
        lambda t: tiny.edit_config(t, rope_parameters={"rope_type": "longrope", "rope_theta": 1e4}), "found 'longrope'"
    ),
    "target: rope in the oldest spelling": target(
        lambda t: tiny.edit_config(t, rope_parameters=None, rope_scaling={"type": "su"}), "found 'su'"
    ),
    "target: scaling without factor": target(
        lambda t: tiny.edit_config(t, rope_parameters={"rope_type": "linear", "rope_theta": 1e4}), "the key 'factor'"
    ),
    "target: stored as int8": target(put(Q_PROJ, np.zeros((64, 48), np.int8)), f"tensor {Q_PROJ} is stored as I8"),
    "target: unknown tensor": target(put("model.extra", np.zeros(1, np.float32)), "target: unknown tensor 'extra'"),
    "target: bias": target(put(Q_PROJ[:-6] + "bias", np.zeros(64, np.float32)), "unknown tensor 'layers.1.self_attn.q"),
    "target: missing tensor": target(
        lambda t: edit_tensors(t, lambda w: w.pop(Q_PROJ)), "target: missing tensor 'layers.1.self_attn.q_proj.weight'"
    ),
    "target: wrong shape": target(
        put(Q_PROJ, np.zeros((64, 47), np.float32)), "q_proj.weight has shape [64, 47], the config asks for [64, 48]"
    ),
    "target: absurd depth": target(
        lambda t: tiny.edit_config(t, num_hidden_layers=10**9), "equal to 10000 (found 10000"
    ),
    "target: eos outside": target(lambda t: tiny.edit_config(t, eos_token_id=128), "eos_token_id 128 lies outside"),
    "target: no tokenizer": target(lambda t: (t / "tokenizer.json").unlink(), "target/tokenizer.json: no such file"),
    "target: tokenizer cut": target(lambda t: cut(t / "tokenizer.json", 99), "target/tokenizer.json: not a tokenizer"),
    "target: template is no Jinja": target(
        lambda t: (t / "chat_template.jinja").write_text("{% for m in messages %}"), "target: chat template: Unexpected"
    ),
    "target: template refuses all": target(
        lambda t: (t / "chat_template.jinja").write_text("{{ raise_exception('never') }}"), "conversation: never"
    ),
    "target: tokenizer of a class with code": target(
        lambda t: (t / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}'),
        "tokenizer_class BertTokenizer is not supported",
    ),
    "target: tokenizer config cut": target(
        lambda t: (t / "tokenizer_config.json").write_text('{"bos_token": '), "tokenizer_config.json: not JSON"
    ),
    "gguf: not there": gguf(lambda g: g.unlink(), "model.gguf: no such file"),
    "gguf: cut in the weights": gguf(lambda g: cut(g, -1), "model.gguf: not a complete GGUF file"),
    "gguf: cut in the metadata": gguf(lambda g: cut(g, 1000), "model.gguf: not a complete GGUF file"),
    "gguf: empty": gguf(lambda g: cut(g, 0), "model.gguf: not a complete GGUF file"),
    "gguf: garbage": gguf(lambda g: g.write_bytes(bytes(range(256)) * 9), "model.gguf: not a complete GGUF file"),
    "gguf: garbage behind the magic": gguf(lambda g: g.write_bytes(b"GGUF\3\0\0\0" + b"\xff" * 999), "not a complete"),
    **{
        f"target: no {key}": target(
            lambda t, key=key: tiny.edit_config(t, **{key: None}), f"target/config.json: missing key '{key}'"
        )
        for key in TARGET_KEYS
    },
}

DRAFTERS = {
    "drafter: nothing there": Case(lambda p: p.build(drafter=p.root / "no"), "/no: no such directory"),
    "drafter: no config": drafter(lambda d: (d / CONFIG).unlink(), "drafter/config.json: no such file"),
    "drafter: config is a list": drafter(lambda d: (d / CONFIG).write_text("[]"), "config.json: holds no JSON object"),
    "drafter: config nested deeply": drafter(
        lambda d: (d / CONFIG).write_text("[" * 100_000), "config.json: not JSON that can be read: it is nested"
    ),
    "drafter: no weights": drafter(lambda d: (d / WEIGHTS).unlink(), f"drafter/{WEIGHTS}: no such file"),
    "drafter: weights cut": drafter(lambda d: cut(d / WEIGHTS, -4), f"drafter/{WEIGHTS}: not a complete safetensors"),
    "drafter: no architectures": config("architectures is None", architectures=None),
    "drafter: other architecture": config("architectures is ['Qwen3Other", architectures=["Qwen3OtherModel"]),
    "drafter: no rope": config("missing key 'rope_theta'", rope_parameters=None),
    "drafter: block of 0": config("block_size: Input should be greater than 0 (found 0)", block_size=0),
    "drafter: block is text": config("block_size: Input should be a valid integer", block_size="seven"),
    "drafter: mask outside": config("mask_token_id 128 lies outside the vocabulary of 128", mask_token_id=128),
    "drafter: mask below": config("mask_token_id: Input should be greater than or equal to 0", mask_token_id=-1),
    "drafter: taps unsorted": config("target_layer_ids: target_layer_ids must be a non", target_layer_ids=[2, 0]),
    "drafter: taps twice": config("target_layer_ids: target_layer_ids must be a non", target_layer_ids=[0, 0]),
    "drafter: no taps": config("target_layer_ids: target_layer_ids must be a non", target_layer_ids=[]),
    "drafter: tap below": config("target_layer_ids: target_layer_ids must be a non", target_layer_ids=[-2, 0]),
    "drafter: final layer tapped": config("target_layer_ids taps layer 3, the target's final", target_layer_ids=[0, 3]),
    "drafter: head type": config("markov_head_type: Input should be 'vanilla'", markov_head_type="lstm"),
    "drafter: sliding layers": config(
        "layer_types.1: Input should be 'full", layer_types=["full_attention", "sliding"]
    ),
    "drafter: too few layer types": config("layer_types names 1 layers", layer_types=["full_attention"]),
    "drafter: heads do not divide": config("num_attention_heads 4 is not a multiple of", num_key_value_heads=3),
    "drafter: confidence on no head": config("confidence_head_with_markov needs markov_rank", markov_rank=0),
    "drafter: hidden size": drafter(
        lambda d: tiny.edit_config(d, hidden_size=64), "drafter: drafter has hidden_size 64, the target has 48"
    ),
    "drafter: vocabulary": drafter(lambda d: tiny.edit_config(d, vocab_size=129), "vocab_size 129, the target has 128"),
    "drafter: target's depth": drafter(
        lambda d: tiny.edit_config(d, num_target_layers=5), "num_target_layers 5, the target has 4"
    ),
    "drafter: unknown tensor": drafter(put("d2t", np.zeros(9, np.float32)), "drafter: unknown tensor 'd2t'"),
    "drafter: Markov head unannounced": drafter(
        lambda d: tiny.edit_config(d, markov_rank=0, enable_confidence_head=False), "unknown tensor 'confidence_head.p"
    ),
    "drafter: gate unannounced": drafter(
        lambda d: tiny.edit_config(d, markov_head_type="vanilla"),
        "unknown tensor 'markov_head.gate_proj.bias'",
        "gated",
    ),
    "drafter: wrong shape": drafter(
        put("fc.weight", np.zeros((48, 48), np.float32)), "tensor fc.weight has shape [48, 48], the config asks for [48"
    ),
    "drafter: stored as int8": drafter(put("fc.weight", np.zeros((48, 96), np.int8)), "fc.weight is stored as I8"),
    "drafter: fc missing": without("fc.weight"),
    "drafter: w2 missing": without("markov_head.markov_w2.weight"),
    "drafter: confidence bias missing": without("confidence_head.proj.bias"),
    "drafter: gate missing": without("markov_head.gate_proj.weight", "gated"),
    "drafter: gate bias missing": without("markov_head.gate_proj.bias", "gated"),
    "drafter: joint missing": without("markov_head.joint_proj.weight", "rnn"),
    "drafter: joint bias missing": without("markov_head.joint_proj.bias", "rnn"),
    **{f"drafter: no {key}": config(f"missing key '{key}'", **{key: None}) for key in REQUIRED_KEYS},
}
