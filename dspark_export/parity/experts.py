"""A mixture of experts in torch, token by token as the models' definitions have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from dspark_export.checkpoints.spec import ExpertSpec


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


class ExpertMlp(nn.Module):
    """Router and experts of one layer."""

    def __init__(self, hidden_size: int, inner_size: int, spec: ExpertSpec) -> None:
        super().__init__()
        self.spec, count = spec, spec.count
        self.router = nn.Linear(hidden_size, count, bias=spec.biased)
        sizes = {"gate": (inner_size, hidden_size), "up": (inner_size, hidden_size), "down": (hidden_size, inner_size)}
        stacks = {f"{which}_proj": Stack(count, *size, bias=spec.biased) for which, size in sizes.items()}
        self.experts = nn.ModuleDict(stacks)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, H] to [B, S, H]."""
        tokens = x.flatten(0, 1)
        shares, chosen = self.router(tokens).softmax(dim=-1).topk(self.spec.per_token, dim=-1)
        if self.spec.renormalised:
            shares = shares / shares.sum(dim=-1, keepdim=True)
        y = torch.zeros_like(tokens)
        for expert in chosen.unique().tolist():
            rows, places = (chosen == expert).nonzero(as_tuple=True)
            y[rows] += shares[rows, places, None] * self._expert(expert, tokens[rows])
        return y.view(x.shape)

    def _expert(self, expert: int, x: Tensor) -> Tensor:
        gate, up, down = (self.experts[f"{which}_proj"] for which in ("gate", "up", "down"))
        assert isinstance(gate, Stack) and isinstance(up, Stack) and isinstance(down, Stack)  # noqa: PT018
        opened, value, spec = gate.of(expert, x), up.of(expert, x), self.spec
        if spec.limit:
            opened, value = opened.clamp(max=spec.limit), value.clamp(-spec.limit, spec.limit)
        inner: Tensor = opened * torch.sigmoid(spec.alpha * opened) * (value + spec.up_offset)
        return down.of(expert, inner)
