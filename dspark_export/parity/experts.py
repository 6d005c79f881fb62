"""A mixture of experts in torch, token by token as the models' definitions have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from dspark_export.checkpoints.spec import Activation, ExpertSpec


class Stack(nn.Module):
    """One projection of all experts: weight [E, out, in], bias [E, out]."""

    def __init__(self, experts: int, out: int, width: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, out, width))
        self.bias = nn.Parameter(torch.zeros(experts, out)) if bias else None

    def of(self, expert: int, x: Tensor) -> Tensor:
        """x [n, in] through one of them, [n, out]."""
        y = x @ self.weight[expert].T
        return y if self.bias is None else y + self.bias[expert]


class Experts(nn.Module):
    """The experts of one layer, without their router."""

    def __init__(self, hidden_size: int, inner_size: int, spec: ExpertSpec, activation: Activation) -> None:
        super().__init__()
        self.spec, self.activation = spec, activation
        self.gate_proj = Stack(spec.count, inner_size, hidden_size, bias=spec.biased)
        self.up_proj = Stack(spec.count, inner_size, hidden_size, bias=spec.biased)
        self.down_proj = Stack(spec.count, hidden_size, inner_size, bias=spec.biased)

    def forward(self, x: Tensor, shares: Tensor, chosen: Tensor) -> Tensor:
        """x [n, H] through the experts `chosen` [n, k], and the sum of what they give times `shares` [n, k], [n, H]."""
        y = torch.zeros_like(x)
        for expert in set(chosen.flatten().tolist()):
            rows, places = (chosen == expert).nonzero(as_tuple=True)
            y[rows] += shares[rows, places, None] * self._expert(expert, x[rows])
        return y

    def _expert(self, expert: int, x: Tensor) -> Tensor:
        gate, up, spec = self.gate_proj.of(expert, x), self.up_proj.of(expert, x), self.spec
        if spec.limit:
            gate, up = gate.clamp(max=spec.limit), up.clamp(-spec.limit, spec.limit)
        bent = gate * torch.sigmoid(spec.alpha * gate)
        if self.activation == "gelu_tanh":
            bent = functional.gelu(gate, approximate="tanh")
        return self.down_proj.of(expert, bent * (up + spec.up_offset))


class ExpertMlp(nn.Module):
    """Router and experts of a layer that has them for an MLP."""

    def __init__(self, hidden_size: int, inner_size: int, spec: ExpertSpec, activation: Activation) -> None:
        super().__init__()
        self.spec = spec
        self.router = nn.Linear(hidden_size, spec.count, bias=spec.biased)
        self.experts = Experts(hidden_size, inner_size, spec, activation)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, H] to [B, S, H]."""
        tokens = x.flatten(0, 1)
        y: Tensor = self.experts(tokens, *best_experts(self.router(tokens), self.spec))
        return y.view(x.shape)


class ScaledRouter(nn.Module):
    """Gemma 4's router: it norms what it sees without a gain, and experts have scales of their own."""

    def __init__(self, hidden_size: int, spec: ExpertSpec, epsilon: float) -> None:
        super().__init__()
        self.spec, self.epsilon = spec, epsilon
        self.proj = nn.Linear(hidden_size, spec.count, bias=False)
        self.scale = nn.Parameter(torch.ones(hidden_size))
        self.per_expert_scale = nn.Parameter(torch.ones(spec.count))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Shares and numbers of the experts of x [n, H], [n, k] each."""
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon)
        scores = self.proj(normed * self.scale * x.shape[-1] ** -0.5)
        shares, chosen = best_experts(scores, self.spec)
        return shares * self.per_expert_scale[chosen], chosen


def best_experts(scores: Tensor, spec: ExpertSpec) -> tuple[Tensor, Tensor]:
    """Shares and numbers of the experts that a router scores best, [n, k] each, by its scores [n, E]."""
    shares, chosen = scores.softmax(dim=-1).topk(spec.per_token, dim=-1)
    return (shares / shares.sum(dim=-1, keepdim=True) if spec.renormalised else shares), chosen
