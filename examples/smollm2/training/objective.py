"""What a drafted distribution q is taught: KL(p || q) and total variation to the target's p, with their gradients.

Gradients by the logits are written out, chunk by chunk, so that no [N, V] array outlives a chunk. Of p only its 64
most likely tokens count (the rest is about a hundredth of it): a gradient is then a multiple of q, plus 64 entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LIKELY = 64
CHUNK = 128


@dataclass(frozen=True)
class Teacher:
    """The target's most likely draft tokens at N positions, likeliest first."""

    places: Tensor
    """[N, K] int64: rows of the draft vocabulary."""
    p: Tensor
    """[N, K] float32: their probabilities, over the whole vocabulary."""

    def at(self, index: Tensor | slice) -> Teacher:
        """Its rows at `index`."""
        return Teacher(self.places[index], self.p[index])


@dataclass(frozen=True)
class Head:
    """Logits are features @ rows.T + bias."""

    rows: Tensor
    """[V_d, D]."""
    bias: Tensor | None = None
    """[V_d]."""


@dataclass(frozen=True)
class Lesson:
    """Of N positions."""

    gradient: Tensor
    """[N, D] float32: of the loss, summed over positions, by the features."""
    row_gradient: Tensor
    """[V_d, r] float32: by the last r columns of the head's rows."""
    accept: Tensor
    """[N]: the probability that a token drawn from q is accepted."""


@torch.no_grad()
def teach(last: Tensor, lse: Tensor, head: Tensor) -> Teacher:
    """The teacher at states `last` [N, H] with log denominators `lse` [N]; `head` [V_d, H]."""
    places, logits = [], []
    for part in last.to(head.dtype).split(CHUNK):
        top = (part @ head.T).topk(min(LIKELY, len(head)), -1)
        places.append(top.indices)
        logits.append(top.values.float())
    return Teacher(torch.cat(places), torch.exp(torch.cat(logits) - lse[:, None]))


@torch.no_grad()
def choices(features: Tensor, rows: Tensor) -> Tensor:
    """[N] int64: the likeliest of `rows` [V_d, D] at features [N, D]."""
    return torch.cat([(part @ rows.T).argmax(-1) for part in features.to(rows.dtype).split(CHUNK)])


@torch.no_grad()
def lesson(features: Tensor, head: Head, teacher: Teacher, alpha: float, learned: int = 0) -> Lesson:
    """Gradients of alpha KL + (1 - alpha) TV at `features` [N, D]; `learned` columns of the head's rows get theirs."""
    down, accept = [], []
    by_rows = torch.zeros(len(head.rows), learned, device=features.device)
    for start in range(0, len(features), CHUNK):
        x = features[start : start + CHUNK].to(head.rows.dtype)
        part = teacher.at(slice(start, start + CHUNK))
        q = torch.softmax(F.linear(x, head.rows, head.bias), -1)
        dense, sparse = logit_gradient(q.gather(1, part.places).float(), part.p, alpha)
        near = F.embedding_bag(part.places, head.rows, per_sample_weights=sparse.to(q.dtype), mode="sum")
        down.append(dense[:, None] * (q @ head.rows).float() + near.float())
        accept.append(torch.minimum(part.p, q.gather(1, part.places).float()).sum(-1))
        if learned:
            own = x[:, -learned:].float()
            by_rows += (q.T @ (dense[:, None] * own).to(q.dtype)).float()
            by_rows.index_add_(0, part.places.flatten(), (sparse[..., None] * own[:, None]).flatten(0, 1))
    return Lesson(torch.cat(down), by_rows, torch.cat(accept))


def logit_gradient(likely: Tensor, p: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Of alpha KL + (1 - alpha) TV by the logits: dense [N] times q, plus sparse [N, K] at the teacher's places.

    `likely` [N, K] is q there. d KL / dz = (sum p) q - p; d TV / dz = q (o - sum(o q)), where o says whether q > p.
    """
    short = likely * (likely <= p)  # what of q lies below p
    return (1 - alpha) * short.sum(-1) + alpha * p.sum(-1), -(1 - alpha) * short - alpha * p
