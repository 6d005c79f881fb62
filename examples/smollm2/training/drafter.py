"""What a kind of drafter must give so that the loop can train it, files can hold it and `measure` can run it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from training.data import Batch
from training.objective import choices

Files = tuple[dict[str, Any], dict[str, Tensor]]
"""config.json and the tensors of model.safetensors."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is the same for every kind, and what only some look at."""

    depth: int = 5
    """Tokens that are drafted one after the other (a block's size)."""
    anchors: int = 48
    """Places in an answer at which drafting starts, a batch."""
    decay: float = 0.8
    """Weight of a step, of the one before's."""
    rank: int = 64
    """Of the Markov head (dspark)."""
    layers: int = 3
    """Of the backbone (dspark, dflash)."""
    mask_token: int = 8
    """In the positions of a block that are not known (dspark, dflash)."""
    name: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    """Of the target, for config.json."""


class Drafter(nn.Module, ABC):
    """Trainable weights are its parameters; what it borrows of the target is held in plain attributes.

    `embedding` [V, H] float32, `full_head` [V, H] and `head` [V_d, H], its rows of `vocabulary` [V_d] int64.
    """

    kind: str

    def __init__(self, config: LlamaConfig, vocabulary: Tensor, settings: Settings) -> None:
        super().__init__()
        self.config, self.vocabulary, self.settings = config, vocabulary, settings
        self.embedding = self.full_head = self.head = torch.empty(0)

    def borrow(self, model: LlamaForCausalLM) -> None:
        """Take what the target lends."""
        self.embedding = model.model.embed_tokens.weight.detach().float()
        self.full_head = model.lm_head.weight.detach()
        self.head = self.full_head[self.vocabulary]

    def choose(self, features: Tensor) -> Tensor:
        """[N] int64: ids of the tokens that are drafted greedily from features [N, H]."""
        return self.vocabulary[choices(features, self.head)]

    @abstractmethod
    def warm_start(self, model: LlamaForCausalLM) -> None:
        """Begin with weights of the target where they fit."""

    @abstractmethod
    def learn(self, batch: Batch, alpha: float) -> None:
        """Add the gradients of a batch to the parameters."""

    @abstractmethod
    def score(self, batch: Batch) -> Tensor:
        """[anchors, depth] float32: is each token, after the answer's own ones before it, the target's choice?"""

    def stored_name(self, name: str) -> str:
        """The name in model.safetensors of the parameter `name`."""
        return name

    def stored_weights(self) -> dict[str, Tensor]:
        """The parameters by these names."""
        return {self.stored_name(name): weight for name, weight in self.state_dict().items()}

    @abstractmethod
    def files(self) -> Files:
        """What a directory of this drafter holds."""

    @abstractmethod
    def propose(self, ids: Tensor, taps: Tensor, last: Tensor) -> list[int]:
        """Draft tokens after ids [n], greedily, from the states [n-1, ...] of all but the last of them."""
