"""The torch oracle of a drafter against a loop over slots, heads and cells: the formulas as they are written down.

Context of position t is c_t = norm(fc(taps_t)), the same in every layer. A slot's query sees keys and values of the
context, which the layer's input norm leaves alone, and of the block, which it does not. All in float64.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dspark_export.checkpoints import DrafterSpec, LayerSpec, RopeSpec
from dspark_export.checkpoints.expected import drafter_optional_tensors, drafter_tensors
from tests.support import tiny

torch = pytest.importorskip("torch")
from dspark_export import parity  # noqa: E402

CONTEXT, ANCHOR = 9, 17
BASE = dataclasses.replace(tiny.drafter_spec(), own_embedding=True, own_head=True)
SPECS = {
    "the anchor predicts": BASE,
    "the anchor is given": dataclasses.replace(BASE, anchor="given"),
    "given, gated": dataclasses.replace(tiny.drafter_spec("gated"), anchor="given"),
    "sliding": tiny.with_windows(BASE, 3, 0),
    "sliding past the context": tiny.with_windows(BASE, CONTEXT + 1, 1),
    "sliding, not causal": tiny.with_windows(BASE, 3, 3, mask="full"),
    "causal": tiny.with_windows(BASE, 0, 3, mask="causal"),
    "sliding, given": dataclasses.replace(tiny.with_windows(BASE, 3, 0), anchor="given"),
    "given, no heads": dataclasses.replace(tiny.drafter_spec("none", confidence=False), anchor="given"),
}
KEPT = tuple(range(1, tiny.VOCAB, 3))
SPECS |= {  # rows of W1 and of the embedding are the target's ids, rows of W2 and of the head are places among the kept
    "reduced": dataclasses.replace(BASE, draft_vocabulary=KEPT),
    "reduced, given, gated": dataclasses.replace(SPECS["given, gated"], draft_vocabulary=KEPT),
}
Array = np.ndarray


def norm(x: Array, weight: Array, epsilon: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * weight


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def turned(x: Array, position: int, rope: RopeSpec) -> Array:
    """One head [D], channels i and i + D/2 turned by position * theta^(-2i/D)."""
    half = len(x) // 2
    angles = position * rope.theta ** (-np.arange(half) / half)
    a, b = x[:half], x[half:]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)])


class Loop:
    """One drafter; `weights` in float64."""

    def __init__(self, spec: DrafterSpec, weights: dict[str, Array]) -> None:
        self.spec, self.weights = spec, {name: array.astype(np.float64) for name, array in weights.items()}

    def block(self, taps: Array, anchor: int) -> tuple[list[int], list[Array], list[float]]:
        """Greedy ids, logits [V] and confidence logits of the slots that predict, behind `taps` [p, L*H]."""
        spec, w = self.spec, self.weights
        context = norm(taps @ w["fc.weight"].T, w["hidden_norm.weight"], spec.shape.rms_norm_eps)
        x = w["embed_tokens.weight"][[anchor] + [spec.mask_token_id] * (spec.block_size - 1)]
        for number, layer in enumerate(spec.shape.layers):
            x = self.layer(f"layers.{number}.", layer, x, context)
        hidden = norm(x, w["norm.weight"], spec.shape.rms_norm_eps)
        previous, results = anchor, []
        for slot in range(1 if spec.anchor == "given" else 0, spec.block_size):
            results.append(self.heads(hidden[slot], previous))
            previous = results[-1][0]
        ids, logits, confidences = zip(*results, strict=True)
        return list(ids), list(logits), list(confidences)

    def heads(self, h: Array, previous: int) -> tuple[int, Array, float]:
        w, logits, e = self.weights, self.weights["lm_head.weight"] @ h, np.empty(0)
        if self.spec.markov.rank:
            e = w["markov_head.markov_w1.weight"][previous]
            mixed = e
            if self.spec.markov.kind == "gated":
                gate = w["markov_head.gate_proj.weight"] @ np.concatenate([h, e]) + w["markov_head.gate_proj.bias"]
                mixed = sigmoid(gate) * e
            logits = logits + w["markov_head.markov_w2.weight"] @ mixed
        confidence = np.inf
        if self.spec.confidence.enabled:
            seen = np.concatenate([h, e]) if self.spec.confidence.with_markov else h
            confidence = float((w["confidence_head.proj.weight"] @ seen + w["confidence_head.proj.bias"])[0])
        wide = np.full(self.spec.vocab_size, -np.inf)
        wide[list(self.spec.draft_vocabulary) or slice(None)] = logits
        return int(wide.argmax()), wide, confidence

    def layer(self, name: str, layer: LayerSpec, x: Array, context: Array) -> Array:
        w, epsilon = self.weights, self.spec.shape.rms_norm_eps
        normed = norm(x, w[f"{name}input_layernorm.weight"], epsilon)
        attended = np.stack([self.slot(name, layer, slot, normed, context) for slot in range(len(x))])
        x = x + attended @ w[f"{name}self_attn.o_proj.weight"].T
        inner = norm(x, w[f"{name}post_attention_layernorm.weight"], epsilon)
        gate, up = inner @ w[f"{name}mlp.gate_proj.weight"].T, inner @ w[f"{name}mlp.up_proj.weight"].T
        return x + (gate * sigmoid(gate) * up) @ w[f"{name}mlp.down_proj.weight"].T

    def slot(self, name: str, layer: LayerSpec, slot: int, normed: Array, context: Array) -> Array:
        """What one slot's heads gather, [Hq*D]."""
        start, group, outputs = len(context), layer.num_heads // layer.num_kv_heads, []
        cells = [(t, context[t]) for t in range(start)] + [(start + j, row) for j, row in enumerate(normed)]
        seen = [(t, row) for t, row in cells if self.sees(layer, slot, t, start)]
        for head in range(layer.num_heads):
            q = self.head(name, "q", layer, head, normed[slot], start + slot)
            keys = np.stack([self.head(name, "k", layer, head // group, row, t) for t, row in seen])
            values = np.stack([self.head(name, "v", layer, head // group, row, t) for t, row in seen])
            scores = np.exp(keys @ q / np.sqrt(layer.head_dim))
            outputs.append(scores @ values / scores.sum())
        return np.concatenate(outputs)

    def sees(self, layer: LayerSpec, slot: int, position: int, start: int) -> bool:
        """Whether a slot of the block that begins at `start` sees `position`."""
        if position < start:
            return not layer.window or position >= start - layer.window
        causal = self.spec.block_mask == "causal" or (self.spec.block_mask != "full" and layer.window > 0)
        return not causal or position <= start + slot

    def head(self, name: str, which: str, layer: LayerSpec, head: int, row: Array, position: int) -> Array:
        rows = slice(head * layer.head_dim, (head + 1) * layer.head_dim)
        x = self.weights[f"{name}self_attn.{which}_proj.weight"][rows] @ row
        if which == "v":
            return x
        x = norm(x, self.weights[f"{name}self_attn.{which}_norm.weight"], self.spec.shape.rms_norm_eps)
        return turned(x, position, layer.rope)


@pytest.mark.parametrize("case", SPECS)
def test_the_oracle_is_the_loop(case: str) -> None:
    """The block begins where the context ends, its masks see one another unless a layer slides, and a bias goes by the
    target's id of the token before, also where few can be drafted."""
    spec = dataclasses.replace(SPECS[case], own_embedding=True, own_head=True)
    shapes = drafter_tensors(spec) | drafter_optional_tensors(spec)
    weights = tiny.random_tensors(shapes, seed=3)
    taps = np.random.default_rng(1).standard_normal((CONTEXT, spec.feature_size), np.float32)
    ids, logits, confidences = Loop(spec, weights).block(taps.astype(np.float64), ANCHOR)
    module: Any = parity.DrafterModule(spec, weights, np.empty(0), np.empty(0))
    base, hidden = module(torch.from_numpy(taps), ANCHOR)
    drafted = parity.draft_greedy(module, base, hidden, ANCHOR)
    assert len(ids) == spec.draft_length
    assert drafted[0].tolist() == ids
    for ours, wanted in zip(drafted[1:], (confidences, logits), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), np.array(wanted), rtol=1e-4, atol=1e-4)
