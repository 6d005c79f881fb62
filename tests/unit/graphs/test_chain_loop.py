"""The torch oracle of chains against a loop over pairs, heads and cells, all in float64 and without a cache.

Pair i is the target's state of token i and token i+1, at rotary position i; behind the pairs of the text come the
drafter's own, (its state, the token just drafted). Every draft runs everything again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dspark_export.checkpoints import DrafterSpec
from tests.support import chains, tiny
from tests.unit.graphs.test_drafter_loop import norm, sigmoid, turned

torch = pytest.importorskip("torch")
from dspark_export import parity  # noqa: E402

Array = np.ndarray
PAIRS = 7
CASES = {
    "eagle3": chains.spec(),
    "eagle3: the residual is normed": chains.spec(residual_normed=True),
    "eagle3: taps normed as one": chains.spec(tap_norm="whole"),
    "eagle3: each tap normed": chains.spec(tap_norm="each"),
    "eagle3: the state is normed": chains.spec(state_normed=True),
    "eagle3: two layers": chains.spec(layers=2, residual_normed=True),
    "eagle3: reduced": replace(chains.spec(), draft_vocabulary=chains.KEPT),
    "eagle3: scaled and capped": replace(chains.spec(), embedding_scale=2.0, logit_softcap=1.5),
    "mtp": chains.spec("mtp"),
    "mtp: the state is normed": chains.spec("mtp", state_normed=True),
    "mtp: hidden first": chains.spec("mtp", embedding_first=False),
    "mtp: two stages": chains.spec("mtp", stages=2),
    "mtp: three stages, normed": chains.spec("mtp", stages=3, state_normed=True),
}


class Loop:
    """One drafter; `weights` in float64."""

    def __init__(self, spec: DrafterSpec, weights: dict[str, Array]) -> None:
        assert spec.chain is not None
        self.spec, self.chain = spec, spec.chain
        self.weights = {name: array.astype(np.float64) for name, array in weights.items()}

    def normed(self, x: Array, name: str) -> Array:
        return norm(x, self.weights[f"{name}.weight"], self.spec.shape.rms_norm_eps)

    def drafts(self, features: Array, next_ids: list[int]) -> tuple[list[int], Array]:
        """Greedy ids and logits [g, V] behind features [p, ...] and the token behind each."""
        ids, lines = list[int](), []
        for _ in range(self.spec.draft_length):
            logits = self.weights["lm_head.weight"] @ self.last(features, next_ids, ids)
            if self.spec.logit_softcap:
                logits = self.spec.logit_softcap * np.tanh(logits / self.spec.logit_softcap)
            wide = np.full(self.spec.vocab_size, -np.inf)
            wide[list(self.spec.draft_vocabulary) or slice(None)] = logits
            lines.append(wide)
            ids.append(int(wide.argmax()))
        return ids, np.stack(lines)

    def last(self, features: Array, next_ids: list[int], drafted: list[int]) -> Array:
        """The normed state [H] that the next draft comes from: stages over the text, then the last one's own steps."""
        text, stages = [*next_ids, *drafted], self.chain.stages
        states = self.taps(features) if self.chain.kind == "eagle3" else features
        for stage in range(min(len(drafted) + 1, stages)):
            tokens = text[stage : stage + len(features)]
            if stage < stages - 1:
                read, (hidden, states) = (states, tokens), self.stage(stage, states, tokens)
        if len(drafted) < stages - 1:
            return hidden[-1]
        read = (states, text[stages - 1 : stages - 1 + len(features)])
        for own in range(len(drafted) - stages + 1):
            _, left = self.stage(stages - 1, *read)
            read = (np.concatenate([read[0], left[-1:]]), [*read[1], drafted[stages - 1 + own]])
        return self.stage(stages - 1, *read)[0][-1]

    def taps(self, features: Array) -> Array:
        if self.chain.tap_norm == "whole":
            features = self.normed(features, "input_norm")
        if self.chain.tap_norm == "each":
            parts = np.split(features, len(self.spec.target_layer_ids), axis=-1)
            features = np.concatenate([self.normed(part, f"fc_norm.{i}") for i, part in enumerate(parts)], axis=-1)
        return np.asarray(features @ self.weights["fc.weight"].T)

    def stage(self, stage: int, states: Array, tokens: list[int]) -> tuple[Array, Array]:
        """Of pairs [n]: states behind the final norm, and those that the next step reads."""
        embedding = self.weights["embed_tokens.weight"][tokens] * self.spec.embedding_scale
        if self.chain.kind == "mtp":
            both = [self.normed(embedding, f"stages.{stage}.embedding_norm")]
            both.append(self.normed(states, f"stages.{stage}.hidden_norm"))
            joined = np.concatenate(both if self.chain.embedding_first else both[::-1], axis=-1)
            x = self.ordinary(stage, joined @ self.weights[f"stages.{stage}.fc.weight"].T)
            normed = self.normed(x, f"stages.{stage}.norm")
        else:
            hidden = self.normed(states, "layers.0.hidden_norm")
            seen = np.concatenate([self.normed(embedding, "layers.0.input_layernorm"), hidden], axis=-1)
            x = self.layer(0, hidden if self.chain.residual_normed else states, seen)
            for number in range(1, self.spec.shape.num_layers):
                x = self.ordinary(number, x)
            normed = self.normed(x, "norm")
        return normed, normed if self.chain.state_normed else x

    def ordinary(self, number: int, x: Array) -> Array:
        return self.layer(number, x, self.normed(x, f"layers.{number}.input_layernorm"))

    def layer(self, number: int, x: Array, seen: Array) -> Array:
        w, name, layer = self.weights, f"layers.{number}", self.spec.shape.layers[number]
        heads: dict[str, Array] = {}
        for which in "qkv":
            flat = seen @ w[f"{name}.self_attn.{which}_proj.weight"].T
            heads[which] = flat.reshape(len(seen), -1, layer.head_dim)
        for which in "qk":
            for i in range(len(seen)):
                heads[which][i] = [turned(head, i, layer.rope) for head in heads[which][i]]
        group, gathered = layer.num_heads // layer.num_kv_heads, np.empty((len(seen), layer.query_size))
        for i in range(len(seen)):
            for head in range(layer.num_heads):
                keys, values = (heads[which][: i + 1, head // group] for which in "kv")
                scores = np.exp(keys @ heads["q"][i, head] / np.sqrt(layer.head_dim))
                gathered[i, head * layer.head_dim : (head + 1) * layer.head_dim] = scores @ values / scores.sum()
        x = x + gathered @ w[f"{name}.self_attn.o_proj.weight"].T
        inner = self.normed(x, f"{name}.post_attention_layernorm")
        gate, up = (inner @ w[f"{name}.mlp.{which}_proj.weight"].T for which in ("gate", "up"))
        return np.asarray(x + (gate * sigmoid(gate) * up) @ w[f"{name}.mlp.down_proj.weight"].T)


@pytest.mark.parametrize("case", CASES)
def test_the_oracle_is_the_loop(case: str) -> None:
    spec = chains.with_tables(CASES[case])
    weights = chains.tensors_of(spec)
    random = np.random.default_rng(1)
    features = random.standard_normal((PAIRS, spec.feature_size), np.float32)
    next_ids = random.integers(0, tiny.VOCAB, PAIRS)
    ids, logits = Loop(spec, weights).drafts(features.astype(np.float64), next_ids.tolist())
    module: Any = parity.ChainModule(spec, weights, np.empty(0), np.empty(0))
    with torch.inference_mode():
        drafted = module.draft(module.new_cache(), torch.from_numpy(features), torch.from_numpy(next_ids))
    assert drafted.ids.tolist() == ids
    np.testing.assert_allclose(drafted.logits.numpy(), logits, rtol=1e-4, atol=1e-4)
    likely = np.sort(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    wanted = np.stack([likely[:, -1], likely[:, -1] - likely[:, -2]], axis=1)
    np.testing.assert_allclose(drafted.scores.numpy(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", ["eagle3: two layers", "mtp"])
def test_what_was_drafted_and_refused_leaves_nothing_behind(case: str) -> None:
    """The oracle's cache after several rounds is that of the accepted text read at once."""
    spec = chains.with_tables(CASES[case])
    module: Any = parity.ChainModule(spec, chains.tensors_of(spec), np.empty(0), np.empty(0))
    random = np.random.default_rng(2)
    features = torch.from_numpy(random.standard_normal((9, spec.feature_size), np.float32))
    next_ids = torch.from_numpy(random.integers(0, tiny.VOCAB, 9))
    with torch.inference_mode():
        whole, parts = module.draft(module.new_cache(), features, next_ids), module.new_cache()
        for part in (slice(0, 4), slice(4, 5), slice(5, 9)):
            last = module.draft(parts, features[part], next_ids[part])
    torch.testing.assert_close(last.logits, whole.logits)
