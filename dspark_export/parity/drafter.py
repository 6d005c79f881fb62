"""The drafter: a parallel backbone over [context features ; block], and its heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dspark_export.parity.decoder import (
    Array,
    DecoderLayer,
    Weights,
    attend,
    load_weights,
    softcapped,
)
from dspark_export.parity.heads import DraftHeads
from dspark_export.parity.norm import RmsNorm

if TYPE_CHECKING:
    from dspark_export.checkpoints.spec import DrafterSpec


class DrafterModule(DraftHeads):
    """A DSpark drafter in float32, without caches: every call recomputes the context's keys and values.

    `weights` has DeepSpec's names. `embedding` and `head` [V, H] are the target's; they serve where the
    checkpoint has none of its own (spec.own_embedding, spec.own_head).
    """

    def __init__(self, spec: DrafterSpec, weights: Weights, embedding: Array, head: Array) -> None:
        shape = spec.shape
        with torch.device("meta"):
            super().__init__(spec.markov, spec.confidence, spec.vocab_size, shape.hidden_size, spec.draft_vocabulary)
            self.embed_tokens = nn.Embedding(spec.vocab_size, shape.hidden_size)
            self.fc = nn.Linear(len(spec.target_layer_ids) * shape.hidden_size, shape.hidden_size, bias=False)
            self.hidden_norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
            self.layers = nn.ModuleList(DecoderLayer(shape, layer) for layer in shape.layers)
            self.norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
            self.lm_head = nn.Linear(shape.hidden_size, spec.draft_vocab_size, bias=False)
        self.spec = spec
        targets = {} if spec.own_embedding else {"embed_tokens.weight": embedding}
        lines = list(spec.draft_vocabulary)
        targets |= {} if spec.own_head else {"lm_head.weight": head[lines] if lines else head}
        load_weights(self, {**targets, **weights})

    def forward(self, features: Tensor, anchor_id: int) -> tuple[Tensor, Tensor]:
        """The parallel pass over one block.

        features [p, L*H]: the target's taps at positions 0 ... p-1. The block [anchor, mask, ...] of block_size B
        sits at positions p ... p+B-1, and its position j predicts token p+1+j, gamma = B; behind a given anchor
        its position j > 0 predicts token p+j, gamma = B-1. Every block position attends to the whole context, in a
        layer with a window W to its positions p-W ... p-1, and to the whole block or its part up to the position
        (spec.block_mask). Returns base logits U [gamma, V], bounded where the spec has a softcap, and the hidden
        states they are made of, h [gamma, H] (after the final norm).
        """
        block_ids = torch.full((1, self.spec.block_size), self.spec.mask_token_id)
        block_ids[0, 0] = anchor_id
        context = self.hidden_norm(self.fc(features))[None]
        block = self.embed_tokens(block_ids) * self.spec.embedding_scale
        positions = torch.arange(features.shape[0] + self.spec.block_size)
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            block = _layer(layer, context, block, positions, self.spec.causal(layer.self_attn.layer))
        hidden: Tensor = self.norm(block)[0, self.spec.block_size - self.spec.draft_length :]
        return softcapped(self.lm_head(hidden), self.spec.logit_softcap), hidden


def _layer(layer: DecoderLayer, context: Tensor, block: Tensor, positions: Tensor, causal: bool) -> Tensor:
    """Block [1, gamma, H] to the next; context [1, p, H] is one for all layers, which do not norm it."""
    start, (cosines, sines) = context.shape[1], layer.self_attn.tables(positions)
    normed = layer.input_layernorm(block)
    queries = layer.self_attn.queries(normed, (cosines[start:], sines[start:]))
    keys, values = layer.self_attn.keys_values(torch.cat([context, normed], dim=1), (cosines, sines))
    first = start - (layer.self_attn.layer.window or start)
    last = positions[start:, None] if causal else positions[-1]
    allowed = ((positions >= first) & (positions <= last)).expand(queries.shape[2], -1)
    return layer.finish(block, attend(queries, keys, values, allowed, layer.self_attn.layer))
