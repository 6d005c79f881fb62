"""Parts of a decoder layer, named as transformers names them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig

from training.target import group_count, layer_dim, rope_theta


class RMSNorm(nn.Module):
    """weight * x / rms(x), in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (self.weight * wide * scale).to(x.dtype)


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = linear(config.hidden_size, config.intermediate_size)
        self.up_proj = linear(config.hidden_size, config.intermediate_size)
        self.down_proj = linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Projections(nn.Module):
    """q, k, v from `width` inputs, and o; what attends to what is the drafter's."""

    def __init__(self, config: LlamaConfig, width: int) -> None:
        super().__init__()
        self.heads, self.groups = config.num_attention_heads, group_count(config)
        self.dim, self.theta = layer_dim(config), rope_theta(config)
        self.q_proj = linear(width, self.heads * self.dim)
        self.k_proj = linear(width, self.groups * self.dim)
        self.v_proj = linear(width, self.groups * self.dim)
        self.o_proj = linear(self.heads * self.dim, config.hidden_size)

    def split(self, x: Tensor, heads: int) -> Tensor:
        """[B, S, heads*d] as [B, heads, S, d]."""
        return x.view(*x.shape[:2], heads, self.dim).transpose(1, 2)

    def keys_values(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Keys, turned to `positions`, and values of x [B, S, width]; both [B, groups, S, d]."""
        keys = self.rotate(self.split(self.k_proj(x), self.groups), positions)
        return keys, self.split(self.v_proj(x), self.groups)

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """x [B, heads, S, d] turned to `positions` [B, S]; half-split pairs over the whole head."""
        steps = torch.arange(0, self.dim, 2, device=x.device) / self.dim
        angles = positions[:, None, :, None].float() / self.theta**steps
        cos, sin = angles.cos(), angles.sin()
        first, second = x.float().chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A matrix without bias, small random entries."""
    module = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(module.weight, std=0.02)
    return module
