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
from torch import Tensor
from transformers import LlamaConfig

from training.data import Batch
from training.drafter import Drafter, Settings, choose_anchors
from training.layers import MLP, Projections, RMSNorm
from training.objective import Head, Teacher, choices, lesson, teach


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
    """[B, A, heads*d] from queries [B, heads, A, d]: softmax over the visible pairs and the chain's own steps."""
    batch, heads, chains, dim = query.shape
    groups, size = memory.keys.shape[1:3]
    grouped = query.reshape(batch, groups, heads // groups, chains, dim)
    wide = grouped.flatten(2, 3)  # queries of a group share its keys
    pairs = (wide @ memory.keys.transpose(2, 3)).view(batch, groups, -1, chains, size).float()
    pairs = pairs.masked_fill(~memory.visible[:, None, None], float("-inf"))
    own = [(grouped * keys[:, :, None]).sum(-1, keepdim=True).float() for keys, _ in memory.own]
    weights = torch.softmax(torch.cat([pairs, *own], -1) * dim**-0.5, -1).to(query.dtype)
    out = (weights[..., :size].flatten(2, 3) @ memory.values).view_as(grouped)
    for step, (_, values) in enumerate(memory.own):
        out = out + weights[..., size + step, None] * values[:, :, None]
    return out.reshape(batch, heads, chains, dim).transpose(1, 2).flatten(2)


def teach_answers(batch: Batch, head: Tensor) -> Teacher:
    """The teacher at every position of the answers, in order."""
    return teach(batch.last[batch.answered], batch.lse[batch.answered], head)


def flat(at: Tensor, batch: Batch) -> Tensor:
    """The rows of `teach_answers` for positions `at` [B, A]; those beyond an answer's end give any row."""
    counts = batch.lengths - batch.prompts
    begin = counts.cumsum(0) - counts - batch.prompts + 1
    return (begin[:, None] + at).clamp(max=int(counts.sum()) - 1)
