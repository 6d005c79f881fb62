"""DeepSpec's drafter for Gemma 4: our oracle, as it is read from a directory, against a loop written from its source.

The loop has config.json's keys and the file's tensors, and nothing of ours. A loop with one of the mistakes that other
readers of these drafters made is far off, so that none of them could pass.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_export.checkpoints import open_drafter
from tests.support import tiny
from tests.support.gemma4_drafters import KINDS, TINY, random_tensors, write_gemma4_drafter

torch = pytest.importorskip("torch")
from dspark_export import parity  # noqa: E402

CONTEXT, ANCHOR, FAR = 9, 17, 1e-2
Array = np.ndarray


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


class Loop:
    """One drafter in float64; `mistake` names what is done wrong."""

    def __init__(self, config: dict[str, Any], tensors: dict[str, Array], mistake: str = "") -> None:
        self.config, self.mistake = config, mistake
        self.weights = {name: array.astype(np.float64) for name, array in tensors.items()}
        self.width = config["global_head_dim"]
        self.heads = config["num_attention_heads"]
        shared = config["attention_k_eq_v"]
        self.kv_heads = config["num_global_key_value_heads" if shared else "num_key_value_heads"]

    def norm(self, x: Array, name: str) -> Array:
        gain = self.weights[name] + (self.mistake == "a gain of one plus w")
        return self.unit(x) * gain

    def unit(self, x: Array) -> Array:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + self.config["rms_norm_eps"])

    def block(self, taps: Array) -> tuple[list[int], list[Array], list[float]]:
        """Greedy ids, logits [V] and confidence logits of the slots behind `taps` [p, L*H]."""
        w, scale = self.weights, math.sqrt(self.config["hidden_size"])
        context = self.norm(taps @ w["fc.weight"].T, "hidden_norm.weight")
        masks = [self.config["mask_token_id"]] * (self.config["block_size"] - 1)
        x = w["embed_tokens.weight"][[ANCHOR, *masks]]
        x = x * np.array([[scale]] + [[1.0 if self.mistake == "masks are not scaled" else scale]] * len(masks))
        for number in range(self.config["num_hidden_layers"]):
            x = self.layer(f"layers.{number}.", x, context)
        return self.drafted(self.norm(x, "norm.weight"))

    def drafted(self, hidden: Array) -> tuple[list[int], list[Array], list[float]]:
        previous, state, ids, logits, confidences = ANCHOR, np.zeros(self.config["markov_rank"]), [], [], []
        for h in hidden:
            bias, state, confidence = self.added(h, previous, state)
            base = self.weights["lm_head.weight"] @ h
            late = self.mistake == "the softcap follows the Markov head"
            logits.append(self.capped(base + bias) if late else self.capped(base) + bias)
            ids.append(int(logits[-1].argmax()))
            confidences.append(confidence)
            previous = ids[-1]
        return ids, logits, confidences

    def capped(self, logits: Array) -> Array:
        cap = self.config["final_logit_softcapping"]
        return logits if cap is None or self.mistake == "no softcap" else cap * np.tanh(logits / cap)

    def added(self, h: Array, previous: int, state: Array) -> tuple[Array, Array, float]:
        """What the Markov head adds to a slot's logits, its next state, and the confidence logit."""
        w, rank, kind = self.weights, self.config["markov_rank"], self.config["markov_head_type"]
        e = w["markov_head.markov_w1.weight"][previous] if rank else np.empty(0)
        mixed, confidence = e, np.inf
        if rank and kind == "gated":
            gate = w["markov_head.gate_proj.weight"] @ np.concatenate([h, e]) + w["markov_head.gate_proj.bias"]
            mixed = sigmoid(gate) * e
        if rank and kind == "rnn":
            joint = w["markov_head.joint_proj.weight"] @ np.concatenate([state, e, h])
            a, b, o = np.split(joint + w["markov_head.joint_proj.bias"], 3)
            mixed, state = np.tanh(o), sigmoid(a) * state + (1 - sigmoid(a)) * np.tanh(b)
        if self.config["enable_confidence_head"]:
            proj = w["confidence_head.proj.weight"] @ np.concatenate([h, e]) + w["confidence_head.proj.bias"]
            confidence = float(proj[0])
        return w["markov_head.markov_w2.weight"] @ mixed if rank else np.zeros(1), state, confidence

    def layer(self, name: str, x: Array, context: Array) -> Array:
        w = self.weights
        normed = self.norm(x, f"{name}input_layernorm.weight")
        seen = self.norm(context, f"{name}input_layernorm.weight") if self.mistake == "context is normed" else context
        attended = self.attention(name, normed, np.concatenate([seen, normed])) @ w[f"{name}self_attn.o_proj.weight"].T
        x = x + self.norm(attended, f"{name}post_attention_layernorm.weight")
        inner = self.norm(x, f"{name}pre_feedforward_layernorm.weight")
        gate, up = inner @ w[f"{name}mlp.gate_proj.weight"].T, inner @ w[f"{name}mlp.up_proj.weight"].T
        inner = (gelu(gate) * up) @ w[f"{name}mlp.down_proj.weight"].T
        x = x + self.norm(inner, f"{name}post_feedforward_layernorm.weight")
        return x if self.mistake == "no layer scalar" else x * w[f"{name}layer_scalar"]

    def attention(self, name: str, normed: Array, rows: Array) -> Array:
        """Every slot's heads [B, Hq*D], over keys and values of `rows` [p + B, H]."""
        start, outputs = len(rows) - len(normed), []
        for head in range(self.heads):
            source = head // (self.heads // self.kv_heads)
            q = np.stack([self.query_key(name, "q", head, x, start + j) for j, x in enumerate(normed)])
            k = np.stack([self.query_key(name, "k", source, x, t) for t, x in enumerate(rows)])
            v = np.stack([self.value(name, source, x, t) for t, x in enumerate(rows)])
            scores = q @ k.T * (self.width**-0.5 if self.mistake == "scores are scaled" else 1.0)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            outputs.append(weights / weights.sum(-1, keepdims=True) @ v)
        return np.concatenate(outputs, axis=-1)

    def projected(self, name: str, which: str, head: int, row: Array) -> Array:
        lines = slice(head * self.width, (head + 1) * self.width)
        return self.weights[f"{name}self_attn.{which}_proj.weight"][lines] @ row

    def query_key(self, name: str, which: str, head: int, row: Array, position: int) -> Array:
        return self.turned(
            self.norm(self.projected(name, which, head, row), f"{name}self_attn.{which}_norm.weight"), position
        )

    def value(self, name: str, head: int, row: Array, position: int) -> Array:
        if self.mistake == "values are keys, normed and turned":
            return self.query_key(name, "k", head, row, position)
        raw = self.projected(name, "k" if self.config["attention_k_eq_v"] else "v", head, row)
        return raw if self.mistake == "values are not normed" else self.unit(raw)

    def turned(self, x: Array, position: int) -> Array:
        """Pairs are half a head apart, and the first quarter of them turns, by frequencies of the whole head."""
        rope, width = self.config["rope_parameters"]["full_attention"], self.width
        turning = int(rope["partial_rotary_factor"] * width / 2)
        half, over = width // 2, width
        if self.mistake == "the head's first channels turn":
            half, over = turning, 2 * turning
        elif self.mistake == "all pairs turn":
            turning = half
        theta = 1e4 if self.mistake == "the base of sliding layers" else rope["rope_theta"]
        y = x.copy()
        for i in range(turning):
            angle = position * theta ** (-2 * i / over)
            y[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
            y[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
        return y


MISTAKES = (
    "values are keys, normed and turned",
    "values are not normed",
    "the head's first channels turn",
    "all pairs turn",
    "the base of sliding layers",
    "the softcap follows the Markov head",
    "no softcap",
    "masks are not scaled",
    "no layer scalar",
    "a gain of one plus w",
    "scores are scaled",
    "context is normed",
)


def taps_of(config: dict[str, Any]) -> Array:
    size = len(config["target_layer_ids"]) * config["hidden_size"]
    return np.random.default_rng(1).standard_normal((CONTEXT, size), np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_the_oracle_is_the_loop(kind: str, tmp_path: Path) -> None:
    config = TINY | KINDS[kind]
    drafter = open_drafter(write_gemma4_drafter(tmp_path, **KINDS[kind]), tiny.target_spec())
    ids, logits, confidences = Loop(config, random_tensors(config)).block(taps_of(config).astype(np.float64))
    module: Any = parity.DrafterModule(drafter.spec, drafter.weights, np.empty(0), np.empty(0))
    base, hidden = module(torch.from_numpy(taps_of(config)), ANCHOR)
    drafted = parity.draft_greedy(module, base, hidden, ANCHOR)
    assert drafted[0].tolist() == ids
    for ours, wanted in zip(drafted[1:], (confidences, logits), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), np.array(wanted), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_loop_would_tell(mistake: str) -> None:
    tensors, taps = random_tensors(TINY), taps_of(TINY).astype(np.float64)
    right, wrong = (Loop(TINY, tensors, how).block(taps)[1][0] for how in ("", mistake))
    assert np.abs(right - wrong).max() > FAR
