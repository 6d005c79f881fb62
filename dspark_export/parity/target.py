"""The target model, with the hidden states that a drafter taps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from dspark_export.parity.decoder import (
    DecoderLayer,
    Weights,
    attend,
    load_weights,
    softcapped,
)
from dspark_export.parity.norm import RmsNorm

if TYPE_CHECKING:
    from dspark_export.checkpoints.spec import TargetSpec


class KeyValueCache:
    """Keys and values of the tokens seen so far, grown by concatenation; it makes long texts bearable."""

    def __init__(self, num_layers: int) -> None:
        self.length = 0
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * num_layers

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append [B, K, S, D] to one layer; return all of that layer's keys and values, [B, K, T, D] each."""
        past = self._layers[layer]
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
        self._layers[layer] = (keys, values)
        return keys, values

    def of(self, layer: int) -> tuple[Tensor, Tensor]:
        """What `extend` returned for that layer last."""
        kept = self._layers[layer]
        assert kept is not None, "layers take keys from earlier ones"
        return kept

    def cut(self, layer: int, length: int) -> None:
        """Forget of one layer what comes behind its first `length` tokens."""
        past = self._layers[layer]
        if past is not None:
            self._layers[layer] = (past[0][:, :, :length], past[1][:, :, :length])

    def truncate(self, length: int) -> None:
        """Forget every token from position `length` on (rollback after a rejected draft)."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} tokens to {length}")
        self._layers = [kv and (kv[0][:, :, :length], kv[1][:, :, :length]) for kv in self._layers]
        self.length = length


class TargetModule(nn.Module):
    """A causal language model in float32.

    `weights` has the canonical names; `lm_head.weight` is present exactly when the embeddings are not tied.
    """

    def __init__(self, spec: TargetSpec, weights: Weights) -> None:
        super().__init__()
        self.spec, shape = spec, spec.shape
        with torch.device("meta"):
            self.embed_tokens = nn.Embedding(spec.vocab_size, shape.hidden_size)
            self.layers = nn.ModuleList(DecoderLayer(shape, layer) for layer in shape.layers)
            self.norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
            width = shape.layers[0].per_layer_input
            if width:
                self.embed_tokens_per_layer = nn.Embedding(spec.vocab_size, shape.num_layers * width)
                self.per_layer_model_projection = nn.Linear(shape.hidden_size, shape.num_layers * width, bias=False)
                self.per_layer_projection_norm = RmsNorm(width, shape.rms_norm_eps)
            if not spec.tied_embeddings:
                self.lm_head = nn.Linear(shape.hidden_size, spec.vocab_size, bias=False)
        load_weights(self, weights)

    def forward(self, token_ids: Tensor, cache: KeyValueCache | None = None) -> tuple[Tensor, list[Tensor]]:
        """Logits and hidden states of the given tokens.

        token_ids int64 [B, S], at positions cache.length and on; the cache is extended. Without one, from 0.
        Returns logits [B, S, V] and num_layers + 1 hidden states [B, S, H]: entry 0 is the embedding output,
        entry k + 1 the output of layer k; the last one, too, is from before the final norm.
        """
        cache = KeyValueCache(self.spec.shape.num_layers) if cache is None else cache
        start, end = cache.length, cache.length + token_ids.shape[1]
        positions = torch.arange(start, end)
        states: list[Tensor] = [self.embed_tokens(token_ids) * self.spec.embedding_scale]
        inputs = self._layer_inputs(token_ids, states[0])
        for index in range(len(self.layers)):
            states.append(self._layer(index, states[-1], positions, cache, inputs[index]))
        cache.length = end
        return self._logits(states[-1]), states

    def _layer_inputs(self, token_ids: Tensor, x: Tensor) -> list[Tensor | None]:
        """What every layer gets beside the states, [B, S, d] each, of tokens [B, S] and their embedding [B, S, H]."""
        depth, width = self.spec.shape.num_layers, self.spec.shape.layers[0].per_layer_input
        if not width:
            return [None] * depth
        size = (*token_ids.shape, depth, width)
        rows = self.embed_tokens_per_layer(token_ids).view(size) * self.spec.per_layer_scale
        projected = self.per_layer_model_projection(x).view(size) / math.sqrt(x.shape[-1])
        both = (rows + self.per_layer_projection_norm(projected)) / math.sqrt(2)
        return list(both.unbind(dim=2))

    def _layer(
        self, index: int, x: Tensor, positions: Tensor, cache: KeyValueCache, layer_input: Tensor | None
    ) -> Tensor:
        layer, spec = self.layers[index], self.spec.shape.layers[index]
        assert isinstance(layer, DecoderLayer)
        normed, tables = layer.input_layernorm(x), layer.self_attn.tables(positions)
        queries = layer.self_attn.queries(normed, tables)
        if spec.keys_from is None:
            keys, values = cache.extend(index, *layer.self_attn.keys_values(normed, tables))
        else:
            keys, values = cache.of(spec.keys_from)
        distance = positions[:, None] - torch.arange(keys.shape[2])
        allowed = (distance >= 0) & ((distance < spec.window) if spec.window else True)
        return layer.finish(x, attend(queries, keys, values, allowed, spec, layer.self_attn.sinks), layer_input)

    def _logits(self, last: Tensor) -> Tensor:
        head = self.embed_tokens if self.spec.tied_embeddings else self.lm_head
        return softcapped(functional.linear(self.norm(last), head.weight), self.spec.logit_softcap)

    def features(self, hidden_states: Sequence[Tensor], taps: Sequence[int]) -> Tensor:
        """The drafter's view of the target: outputs of the tapped layers side by side, [B, S, L*H].

        Tap k is the output of layer k, -1 the embedding output; num_layers is the final layer's output behind the final
        norm. Raises ValueError for the final layer itself, which no drafter may tap (Hugging Face returns that one
        after the norm), and beyond.
        """
        depth = self.spec.shape.num_layers
        for tap in taps:
            if not (-1 <= tap < depth - 1 or tap == depth):
                raise ValueError(f"tap {tap} is outside -1 ... {depth - 2}")
        return torch.cat(
            [self.norm(hidden_states[-1]) if tap == depth else hidden_states[tap + 1] for tap in taps], dim=-1
        )
