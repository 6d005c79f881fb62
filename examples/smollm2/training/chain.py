"""Drafters of one layer that draft a token a step from their own last state: Eagle3 and MTP-1 heads.

The pair at position i is the target's state of token i with the embedding of token i+1. Drafting after token a begins
with the pair a-1; each next step takes the drafter's own state in the target's place. A step attends to the pairs up
to a-1 and to the own steps before it; training unrolls these steps as drafting does (training-time test, Eagle-3).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig

from training.data import Batch
from training.drafter import Drafter, Settings
from training.layers import MLP, Projections, RMSNorm
from training.objective import Head, choices, lesson
from training.positions import choose_anchors, flat, teach_answers


@dataclass
class Memory:
    """Keys and values that A chains in each of B answers attend to, [B, groups, S or A, d]."""

    keys: Tensor
    values: Tensor
    visible: Tensor
    """[B, A, S] bool: pairs before each chain's first."""
    own: list[tuple[Tensor, Tensor]] = field(default_factory=list)


class ChainDrafter(Drafter):
    """The layer and the unrolling; kinds say how a pair enters it and what leaves it."""

    def __init__(self, config: LlamaConfig, vocabulary: Tensor, settings: Settings, width: int) -> None:
        super().__init__(config, vocabulary, settings)
        self.self_attn, self.mlp = Projections(config, width), MLP(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    @abstractmethod
    def states_of(self, taps: Tensor, last: Tensor) -> Tensor:
        """[..., H]: what stands for the target's states in pairs, from taps [..., L*H] and last states [..., H]."""

    def target_states(self, batch: Batch) -> Tensor:
        """[B, N-1, H]: the same of a batch."""
        return self.states_of(batch.taps, batch.last)

    @abstractmethod
    def enter(self, embedding: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What attention reads [..., width], and the residual stream [..., H]."""

    @abstractmethod
    def leave(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        """What the head reads, and the state for the next step, both [..., H]."""

    def read(self, ids: Tensor, states: Tensor, anchors: Tensor) -> tuple[Memory, Tensor]:
        """The memory of chains at `anchors` [B, A] over ids [B, S+1], and the states [B, A, H] that they begin with."""
        x, _ = self.enter(self.embedding[ids[:, 1 : states.shape[1] + 1]], states)
        at = torch.arange(states.shape[1], device=ids.device)
        keys, values = self.self_attn.keys_values(x, at[None])
        begin = states.gather(1, (anchors - 1)[..., None].expand(-1, -1, states.shape[2]))
        return Memory(keys, values, at < anchors[..., None] - 1), begin

    def step(self, tokens: Tensor, states: Tensor, at: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """From tokens [B, A] and states [B, A, H] of pairs `at` [B, A]: what the head reads, and the next states."""
        attention = self.self_attn
        x, stream = self.enter(self.embedding[tokens], states)
        memory.own.append(attention.keys_values(x, at))
        query = attention.rotate(attention.split(attention.q_proj(x), attention.heads), at)
        stream = stream + attention.o_proj(attend(query, memory))
        stream = stream + self.mlp(self.post_attention_layernorm(stream))
        return self.leave(stream)

    def unroll(self, batch: Batch, anchors: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Each step's features [B, A, H] and the positions [B, A] whose next token they predict."""
        memory, states = self.read(batch.ids[:, :-1], self.target_states(batch)[:, :-1], anchors)
        for step in range(self.settings.depth):
            at = (anchors + step).clamp(max=batch.ids.shape[1] - 2)
            with torch.autocast(at.device.type, torch.bfloat16, enabled=self.head.dtype == torch.bfloat16):
                hidden, states = self.step(batch.ids.gather(1, at), states, at - 1, memory)
            yield hidden, anchors + step

    def taught_head(self) -> Head:
        """The head whose logits are taught."""
        return Head(self.head)

    def learn(self, batch: Batch, alpha: float) -> None:
        teacher = teach_answers(batch, self.head)
        losses, count, head = [], 0, self.taught_head()
        for step, (hidden, at) in enumerate(self.unroll(batch, choose_anchors(batch, self.settings.anchors, 1))):
            kept = (at < batch.lengths[:, None] - 1) & (torch.rand(at.shape) < self.settings.decay**step)
            taught = teacher.at(flat(at, batch)[kept])
            found = lesson(hidden[kept], head, taught, alpha)
            losses.append((hidden[kept].float() * found.gradient).sum())
            count += int(kept.sum())
        (torch.stack(losses).sum() / count).backward()

    @torch.no_grad()
    def score(self, batch: Batch) -> Tensor:
        anchors = choose_anchors(batch, self.settings.anchors, self.settings.depth)
        best, columns = choices(batch.last[batch.answered], self.full_head), []
        for hidden, at in self.unroll(batch, anchors):
            columns.append(self.choose(hidden.flatten(0, 1)) == best[flat(at, batch).flatten()])
        return torch.stack(columns, 1).float()

    @torch.inference_mode()
    def propose(self, ids: Tensor, taps: Tensor, last: Tensor) -> list[int]:
        anchor, drafted = torch.tensor([[len(ids) - 1]]), []
        memory, states = self.read(ids[None], self.states_of(taps, last)[None], anchor)
        token = ids[None, -1:]
        for step in range(self.settings.depth):
            hidden, states = self.step(token, states, anchor + step - 1, memory)
            token = self.choose(hidden[0])[None]
            drafted.append(int(token))
        return drafted


def attend(query: Tensor, memory: Memory) -> Tensor:
    """[B, A, heads*d] from queries [B, heads, A, d]: over the visible pairs and the chain's own steps."""
    keys = torch.cat([memory.keys, *(keys for keys, _ in memory.own)], 2)
    values = torch.cat([memory.values, *(values for _, values in memory.own)], 2)
    own = torch.eye(query.shape[2], dtype=torch.bool, device=query.device).repeat(1, len(memory.own))
    mask = torch.cat([memory.visible, own.expand(len(query), -1, -1)], -1)[:, None]
    seen = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True)
    return seen.transpose(1, 2).flatten(2)
