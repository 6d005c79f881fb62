"""Places in the answers of a batch: where drafting starts, and what the target says there."""

from __future__ import annotations

import torch
from torch import Tensor

from training.data import Batch
from training.objective import Teacher, teach


def choose_anchors(batch: Batch, count: int, reach: int) -> Tensor:
    """[B, count] int64: places of known tokens of the answers, at least `reach` tokens before their end."""
    low, high = batch.prompts, batch.lengths - reach
    part = torch.rand(len(low), count, device=low.device)
    return low[:, None] + (part * (high - low)[:, None]).long()


def teach_answers(batch: Batch, head: Tensor) -> Teacher:
    """The teacher at every position of the answers, in order."""
    return teach(batch.last[batch.answered], batch.lse[batch.answered], head)


def flat(at: Tensor, batch: Batch) -> Tensor:
    """The rows of `teach_answers` for positions `at` [B, A]; those beyond an answer's end give any row."""
    counts = batch.lengths - batch.prompts
    begin = counts.cumsum(0) - counts - batch.prompts + 1
    return (begin[:, None] + at).clamp(max=int(counts.sum()) - 1)
