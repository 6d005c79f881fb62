"""The backbone of block drafters (DFlash): layers that read the target's states and fill a block in one pass.

A block is the embedding of the last known token and of mask tokens. Its queries see the states of every token before
the block, projected by each layer's k and v from the one `hidden_norm(fc(taps))`, and all of the block itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig

from training.layers import MLP, Projections, RMSNorm, linear


class BlockAttention(Projections):
    """With norms of heads, as Qwen3 has them."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config, config.hidden_size)
        self.q_norm = RMSNorm(self.dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(self.dim, config.rms_norm_eps)

    def forward(self, x: Tensor, context: Tensor, at: Tensor, mask: Tensor) -> Tensor:
        """[B, Q, H] from x [B, Q, H] at positions `at` [B, Q] and context [B, S, H]; mask [B, 1, Q, S+Q]."""
        both = torch.cat([context, x], 1)
        steps = torch.arange(context.shape[1], device=x.device).expand(len(x), -1)
        query = self.rotate(self.q_norm(self.split(self.q_proj(x), self.heads)), at)
        keys = self.rotate(self.k_norm(self.split(self.k_proj(both), self.groups)), torch.cat([steps, at], 1))
        values = self.split(self.v_proj(both), self.groups)
        seen = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True)
        return self.o_proj(seen.transpose(1, 2).flatten(2))


class BlockLayer(nn.Module):
    """Attention and MLP, each behind a norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn, self.mlp = BlockAttention(config), MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, context: Tensor, at: Tensor, mask: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), context, at, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    """[B, Q, H] before the heads."""

    def __init__(self, config: LlamaConfig, layers: int, taps: int) -> None:
        super().__init__()
        self.fc = linear(taps * config.hidden_size, config.hidden_size)
        self.hidden_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.layers = nn.ModuleList(BlockLayer(config) for _ in range(layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, taps: Tensor, at: Tensor, mask: Tensor) -> Tensor:
        context = self.hidden_norm(self.fc(taps))
        for layer in self.layers:
            x = layer(x, context, at, mask)
        return self.norm(x)


def block_mask(anchors: Tensor, block: int, size: int) -> Tensor:
    """[B, 1, A*block, size + A*block] bool: the states before a block's anchor, and the block's own positions."""
    of = torch.arange(anchors.shape[1], device=anchors.device).repeat_interleave(block)
    before = torch.arange(size, device=anchors.device) < anchors[:, of, None]
    own = (of[:, None] == of).expand(len(anchors), -1, -1)
    return torch.cat([before, own], -1)[:, None]
