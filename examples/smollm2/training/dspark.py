"""DSpark: the same backbone with a vanilla Markov head and a confidence head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig

from training.block import DFlashDrafter
from training.drafter import Settings
from training.layers import linear
from training.objective import Head, Teacher, choices, lesson

CONFIDENCE = 0.3
"""Share of its cross-entropy in the loss."""


class MarkovHead(nn.Module):
    """Logits that depend on the token before alone."""

    def __init__(self, vocabulary: int, rank: int, drafted: int) -> None:
        super().__init__()
        self.markov_w1 = nn.Embedding(vocabulary, rank)
        self.markov_w2 = linear(rank, drafted)
        nn.init.normal_(self.markov_w1.weight, std=0.02)
        nn.init.normal_(self.markov_w2.weight, std=0.005)


class ConfidenceHead(nn.Module):
    """The logit of a draft token's acceptance."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 1)
        nn.init.normal_(self.proj.weight, std=0.02)
        nn.init.zeros_(self.proj.bias)


class DSparkDrafter(DFlashDrafter):
    """A block whose tokens are drawn in order, each with the one before it in view."""

    kind = "dspark"

    def __init__(self, config: LlamaConfig, vocabulary: Tensor, settings: Settings) -> None:
        super().__init__(config, vocabulary, settings)
        self.markov_head = MarkovHead(config.vocab_size, settings.rank, len(vocabulary))
        self.confidence_head = ConfidenceHead(config.hidden_size + settings.rank)

    def rows(self) -> Tensor:
        """[V_d, H + rank]: the head's rows, and the Markov head's behind them."""
        return torch.cat([self.head, self.markov_head.markov_w2.weight.detach().to(self.head.dtype)], 1)

    def loss(self, hidden: Tensor, previous: Tensor, teacher: Teacher, alpha: float) -> Tensor:
        features = torch.cat([hidden, self.markov_head.markov_w1(previous)], -1)
        found = lesson(features, Head(self.rows()), teacher, alpha, learned=self.settings.rank)
        sure = self.confidence_head.proj(features)[:, 0]
        confidence = F.binary_cross_entropy_with_logits(sure, found.accept.clamp(0, 1), reduction="sum")
        by_rows = (self.markov_head.markov_w2.weight * found.row_gradient).sum()
        return ((features * found.gradient).sum() + by_rows + CONFIDENCE * confidence) / len(hidden)

    @torch.no_grad()
    def choose_after(self, hidden: Tensor, previous: Tensor) -> Tensor:
        features = torch.cat([hidden, self.markov_head.markov_w1(previous).to(hidden.dtype)], -1)
        return self.vocabulary[choices(features, self.rows())]

    def head_keys(self) -> dict[str, object]:
        return {
            "markov_rank": self.settings.rank,
            "markov_head_type": "vanilla",
            "enable_confidence_head": True,
            "confidence_head_with_markov": True,
        }
