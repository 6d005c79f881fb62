"""The two ops as one would write them in torch: what `gpu_kernels.py` compares our kernels with.

Vanilla heads only. Draws are by inverse CDF from given uniforms, as our kernels draw, so that results can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

Tensors = Mapping[str, torch.Tensor]


def draft(inputs: Tensors, sampling: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(draft_ids [B, g], draft_logits [B, g, V] or None) of a vanilla Markov head; the op's inputs by name."""
    previous, ids, kept = inputs["anchor_ids"], [], []
    for step in range(inputs["base_logits"].shape[1]):
        bias = inputs["w1"][previous] @ inputs["w2"].T
        logits = inputs["base_logits"][:, step] + bias.float()
        previous = logits.argmax(-1)
        if sampling:
            drawn = draw(torch.softmax(logits / _heat(inputs["temperature"])[:, None], -1), inputs["uniforms"][:, step])
            previous = torch.where(inputs["temperature"] > 0, drawn, previous)
            kept.append(logits)
        ids.append(previous)
    return torch.stack(ids, 1), torch.stack(kept, 1) if kept else None


def accept(inputs: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """(accepted [R], next_ids [R]) of `dspark::Accept`, where every row has its whole block verified."""
    rows, block, vocab = inputs["draft_logits"].shape
    heat, hot = _heat(inputs["temperature"]), inputs["temperature"] > 0
    lines = inputs["logits"].view(rows, block + 1, vocab)
    p = torch.softmax(lines / heat[:, None, None], -1)
    q = torch.softmax(inputs["draft_logits"] / heat[:, None, None], -1)
    ids = inputs["draft_ids"][..., None]
    p_x, q_x = p[:, :block].gather(2, ids)[..., 0], q.gather(2, ids)[..., 0]
    fair = (inputs["uniforms"][:, :block, 0] * q_x <= p_x) & (p_x > 0)
    best = lines.argmax(-1)
    good = torch.where(hot[:, None], fair, best[:, :block] == inputs["draft_ids"])
    accepted = good.long().cumprod(1).sum(1)
    every = torch.arange(rows, device=accepted.device)
    target, draft_ = p[every, accepted], q[every, accepted.clamp(max=block - 1)]
    residual = (target - draft_).clamp(min=0) * (accepted < block)[:, None]
    weights = torch.where(residual.sum(1, keepdim=True) > 1e-6, residual, target)
    drawn = draw(weights, inputs["uniforms"][every, accepted, 1])
    return accepted, torch.where(hot, drawn, best[every, accepted])


def draw(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """[R]: the first index of weights [R, V] whose cumulative weight exceeds uniform * (the sum)."""
    cumulative = weights.double().cumsum(-1)
    thresholds = uniforms.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, thresholds, right=True)[:, 0].clamp(max=weights.shape[1] - 1)


def _heat(temperature: torch.Tensor) -> torch.Tensor:
    return torch.where(temperature > 0, temperature, torch.ones_like(temperature))


def compiled(function: Any) -> Any:
    """The function through torch.compile, for fixed shapes.

    What was compiled before is forgotten: torch runs a function uncompiled, and says so in a log only, once it has seen
    it in more than a few shapes.
    """
    torch.compiler.reset()
    return torch.compile(function, dynamic=False)
