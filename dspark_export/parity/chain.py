"""A chain: Eagle3 or an MTP head, one token after the other, with a cache of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from dspark_export.parity.decoder import Array, DecoderLayer, Weights, attend, load_weights, softcapped
from dspark_export.parity.heads import DraftHeads, inverse_cdf
from dspark_export.parity.norm import RmsNorm
from dspark_export.parity.target import KeyValueCache

if TYPE_CHECKING:
    from dspark_export.checkpoints.spec import DecoderShape, DrafterSpec, LayerSpec


class Chained(NamedTuple):
    """ids [g], confidence logits [g] (+inf), logits [g, V] over all tokens, scores [g, 2]."""

    ids: Tensor
    confidence: Tensor
    logits: Tensor
    scores: Tensor


class ChainModule(DraftHeads):
    """A chain in float32. Module names are those of the canonical tensors; `embedding`, `head` [V, H] are the target's.

    Keys and values of the pairs that were read stay in a `KeyValueCache`, a layer each.
    """

    def __init__(self, spec: DrafterSpec, weights: Weights, embedding: Array, head: Array) -> None:
        assert spec.chain is not None, "only chains are run here"
        chain, hidden = spec.chain, spec.shape.hidden_size
        with torch.device("meta"):
            super().__init__(spec.markov, spec.confidence, spec.vocab_size, hidden, spec.draft_vocabulary)
            self.embed_tokens = nn.Embedding(spec.vocab_size, hidden)
            self.lm_head = nn.Linear(hidden, spec.draft_vocab_size, bias=False)
            self.layers = nn.ModuleList(DecoderLayer(spec.shape, layer) for layer in spec.shape.layers)
            if chain.kind == "mtp":
                self.stages = nn.ModuleList(MtpStage(spec.shape) for _ in range(chain.stages))
            else:
                self._add_eagle3(spec)
        self.spec, self.chain = spec, chain
        targets = {} if spec.own_embedding else {"embed_tokens.weight": embedding}
        lines = list(spec.draft_vocabulary)
        targets |= {} if spec.own_head else {"lm_head.weight": head[lines] if lines else head}
        load_weights(self, {**targets, **weights})

    def _add_eagle3(self, spec: DrafterSpec) -> None:
        assert spec.chain is not None, "only chains are run here"
        hidden, count, epsilon = spec.shape.hidden_size, len(spec.target_layer_ids), spec.shape.rms_norm_eps
        self.fc = nn.Linear(count * hidden, hidden, bias=False)
        self.norm = RmsNorm(hidden, epsilon)
        if spec.chain.tap_norm == "whole":
            self.input_norm = RmsNorm(count * hidden, epsilon)
        if spec.chain.tap_norm == "each":
            self.fc_norm = nn.ModuleList(RmsNorm(hidden, epsilon) for _ in range(count))
        self.layers[0] = Eagle3Layer(spec.shape, spec.shape.layers[0])

    def new_cache(self) -> KeyValueCache:
        """Nothing read yet."""
        return KeyValueCache(len(self.layers))

    def draft(
        self,
        cache: KeyValueCache,
        features: Tensor,
        next_ids: Tensor,
        temperature: float = 0.0,
        uniforms: Sequence[float] = (),
    ) -> Chained:
        """Draft gamma tokens behind the anchor, next_ids[-1].

        features [m, L*H] of the tokens at cache.length and on, next_ids [m] the token behind each. Afterwards the
        cache holds these m pairs of every stage, the steps' own being forgotten.
        """
        start, stages = cache.length, self.chain.stages
        state, ids, ends = features, next_ids, cache.length + len(features)
        drafts: list[tuple[Tensor, Tensor]] = []
        for step in range(self.spec.draft_length):
            stage = min(step, stages - 1)
            at = start if step < stages else ends + step - stages
            normed, state = self._read(cache, stage, state, ids, at, first=step == 0)
            logits = softcapped(self.lm_head(normed[-1]), self.spec.logit_softcap)
            place = inverse_cdf(logits, temperature, uniforms[step]) if temperature else logits.argmax()
            drafts.append((self.token(place), logits))
            if step + 1 < stages:
                ids = torch.cat([ids[1:], drafts[-1][0][None]])
            else:
                state, ids = state[-1:], drafts[-1][0][None]
        for layer in range(len(self.layers)):
            cache.cut(layer, ends)
        cache.length = ends
        return self._gathered(drafts)

    def _gathered(self, drafts: Sequence[tuple[Tensor, Tensor]]) -> Chained:
        ids, logits = zip(*drafts, strict=True)
        scores = []
        for line in logits:
            best = line.log_softmax(-1).sort(descending=True).values
            scores.append(torch.stack([best[0], best[0] - best[1]]))
        confidence = torch.full((len(ids),), torch.inf)
        return Chained(
            torch.stack(ids), confidence, torch.stack([self.over_all(line) for line in logits]), torch.stack(scores)
        )

    def _read(
        self, cache: KeyValueCache, stage: int, state: Tensor, ids: Tensor, at: int, *, first: bool
    ) -> tuple[Tensor, Tensor]:
        """Pairs of state [m, ...] and ids [m] at `at` and on: states behind the norm, and those for the next step."""
        embedding = self.embed_tokens(ids) * self.spec.embedding_scale
        positions = torch.arange(at, at + len(ids))
        if self.chain.kind == "mtp":
            module = self.stages[stage]
            assert isinstance(module, MtpStage)
            parts = [module.embedding_norm(embedding), module.hidden_norm(state)]
            x = module.fc(torch.cat(parts if self.chain.embedding_first else parts[::-1], dim=-1))
            x = self._ordinary(cache, stage, x, positions)
            normed = module.norm(x)
        else:
            x = self._eagle3(cache, embedding, self._taps(state) if first else state, positions)
            normed = self.norm(x)
        return normed, normed if self.chain.state_normed else x

    def _taps(self, features: Tensor) -> Tensor:
        if self.chain.tap_norm == "whole":
            features = self.input_norm(features)
        if self.chain.tap_norm == "each":
            parts = features.chunk(len(self.fc_norm), dim=-1)
            features = torch.cat([norm(part) for norm, part in zip(self.fc_norm, parts, strict=True)], dim=-1)
        u: Tensor = self.fc(features)
        return u

    def _eagle3(self, cache: KeyValueCache, embedding: Tensor, state: Tensor, positions: Tensor) -> Tensor:
        layer = self.layers[0]
        assert isinstance(layer, Eagle3Layer)
        normed = layer.hidden_norm(state)
        both = torch.cat([layer.input_layernorm(embedding), normed], dim=-1)
        x = normed if self.chain.residual_normed else state
        x = self._layer(cache, 0, x, both, positions)
        for index in range(1, len(self.layers)):
            x = self._ordinary(cache, index, x, positions)
        return x

    def _ordinary(self, cache: KeyValueCache, index: int, x: Tensor, positions: Tensor) -> Tensor:
        layer = self.layers[index]
        assert isinstance(layer, DecoderLayer)
        return self._layer(cache, index, x, layer.input_layernorm(x), positions)

    def _layer(self, cache: KeyValueCache, index: int, x: Tensor, seen: Tensor, positions: Tensor) -> Tensor:
        """x [m, H], of which attention sees `seen` [m, W]: layer `index`'s output. What was read at these positions or
        behind is forgotten."""
        layer = self.layers[index]
        assert isinstance(layer, DecoderLayer)
        attention, tables = layer.self_attn, layer.self_attn.tables(positions)
        cache.cut(index, int(positions[0]))
        keys, values = cache.extend(index, *attention.keys_values(seen[None], tables))
        distance = positions[:, None] - torch.arange(keys.shape[2])
        allowed = (distance >= 0) & ((distance < attention.layer.window) if attention.layer.window else True)
        queries = attention.queries(seen[None], tables)
        return layer.finish(x[None], attend(queries, keys, values, allowed, attention.layer))[0]


class Eagle3Layer(DecoderLayer):
    """The first layer, whose attention reads the embedding and the state."""

    def __init__(self, shape: DecoderShape, layer: LayerSpec) -> None:
        super().__init__(shape, layer)
        hidden, bias = shape.hidden_size, layer.qkv_bias
        self.hidden_norm = RmsNorm(hidden, shape.rms_norm_eps)
        self.self_attn.q_proj = nn.Linear(2 * hidden, layer.query_size, bias=bias)
        self.self_attn.k_proj = nn.Linear(2 * hidden, layer.kv_size, bias=bias)
        if not layer.shared_values:
            self.self_attn.v_proj = nn.Linear(2 * hidden, layer.kv_size, bias=bias)


class MtpStage(nn.Module):
    """What stands around the layer of a stage."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        hidden = shape.hidden_size
        self.embedding_norm = RmsNorm(hidden, shape.rms_norm_eps)
        self.hidden_norm = RmsNorm(hidden, shape.rms_norm_eps)
        self.norm = RmsNorm(hidden, shape.rms_norm_eps)
        self.fc = nn.Linear(2 * hidden, hidden, bias=False)
