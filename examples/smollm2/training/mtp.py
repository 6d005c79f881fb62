"""An MTP-1 head as DeepSeek-V3 has it, with the target's own kind of decoder layer, and chained.

x = eh_proj [enorm(embedding of token i+1) ; hnorm(state i)], a decoder layer, `shared_head.norm`, the target's head.
State i is the target's after its final norm; chained steps take the head's own output of `shared_head.norm`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from training.chain import ChainDrafter
from training.data import Batch
from training.drafter import Files, Settings
from training.layers import RMSNorm, linear
from training.objective import Head, choices
from training.target import last_states

SAMPLED = 2048
"""Tokens outside the draft vocabulary that a batch's softmax has as well, so that none grows unseen."""


class MtpDrafter(ChainDrafter):
    """One decoder layer behind a projection of embedding and state."""

    kind = "mtp"

    def __init__(self, config: LlamaConfig, vocabulary: Tensor, settings: Settings) -> None:
        super().__init__(config, vocabulary, settings, config.hidden_size)
        self.enorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.hnorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.eh_proj = linear(2 * config.hidden_size, config.hidden_size)
        self.others = torch.empty(0, dtype=torch.int64)
        self.model: list[LlamaForCausalLM] = []  # in a list: no part of this module

    def borrow(self, model: LlamaForCausalLM) -> None:
        super().borrow(model)
        self.model = [model]
        rare = torch.ones(self.config.vocab_size, dtype=torch.bool)
        rare[self.vocabulary.cpu()] = False
        self.others = rare.nonzero()[:, 0].to(self.vocabulary.device)

    @torch.no_grad()
    def warm_start(self, model: LlamaForCausalLM) -> None:
        layer = {name: weight.float() for name, weight in model.model.layers[-1].state_dict().items()}
        self.load_state_dict(layer, strict=False)
        self.norm.weight.copy_(model.model.norm.weight)
        half = self.config.hidden_size
        self.eh_proj.weight[:, half:] += torch.eye(half)

    def target_states(self, batch: Batch) -> Tensor:
        """Those of the prompts are not stored: the target's last layer gives them again."""
        tap = batch.taps[..., -self.config.hidden_size :]
        again = last_states(self.model[0], tap).float()
        return torch.where(batch.answered[..., None], batch.last, again)

    def choose(self, features: Tensor) -> Tensor:
        """Any token of the target."""
        return choices(features, self.full_head)

    def taught_head(self) -> Head:
        """The frequent tokens, and some of the others as a sample of them all, with the logarithm of its share."""
        count = min(SAMPLED, len(self.others))
        if not count:
            return Head(self.head)
        drawn = self.others[torch.randint(len(self.others), (count,), device=self.others.device)]
        bias = torch.zeros(len(self.head) + count, dtype=self.head.dtype, device=self.head.device)
        bias[len(self.head) :] = math.log(len(self.others) / count)
        return Head(torch.cat([self.head, self.full_head[drawn]]), bias)

    def states_of(self, taps: Tensor, last: Tensor) -> Tensor:
        return last

    def enter(self, embedding: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        stream = self.eh_proj(torch.cat([self.enorm(embedding), self.hnorm(state)], -1))
        return self.input_layernorm(stream), stream

    def leave(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        out = self.norm(stream)
        return out, out

    def stored_name(self, name: str) -> str:
        own = "shared_head.norm.weight" if name == "norm.weight" else name
        return f"model.layers.{self.config.num_hidden_layers}.{own}"

    def files(self) -> Files:
        """DeepSeek-V3's names, as the layer after the target's last; embedding and head are the target's."""
        config = {key: value for key, value in self.config.to_diff_dict().items() if not key.startswith("_")}
        own = {"architectures": ["LlamaForCausalLMNextN"], "num_nextn_predict_layers": 1, "dtype": "bfloat16"}
        return config | own, self.stored_weights()
