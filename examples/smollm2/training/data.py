"""Stored answers of the target with its hidden states, and batches of them.

A shard is a list of dictionaries, one an answer of n tokens with its prompt of p tokens, saved by torch:
`ids` [n] int32; `prompt_len` p; `feats` [n-1, L*H] float16, the outputs of the tapped layers; `last` [n-p, H] float16,
the states after the final norm from position p-1 on; `lse` [n-p] float32, the log of the softmax's denominator there.
The last token's own states are never computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from training.problems import TrainingError


class Answer(TypedDict):
    """An entry of a shard."""

    ids: Tensor
    prompt_len: int
    feats: Tensor
    last: Tensor
    lse: Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Answers padded on the right to N tokens; states have N-1 positions."""

    ids: Tensor
    """[B, N] int64."""
    lengths: Tensor
    """[B] tokens with the prompt."""
    prompts: Tensor
    """[B] tokens of the prompt."""
    taps: Tensor
    """[B, N-1, L*H] float32."""
    last: Tensor
    """[B, N-1, H] float32; zero in the prompt, but for its last position."""
    lse: Tensor
    """[B, N-1] float32."""

    @property
    def answered(self) -> Tensor:
        """[B, N-1] bool: positions whose next token is the answer's."""
        at = torch.arange(self.last.shape[1], device=self.ids.device)
        return (at >= self.prompts[:, None] - 1) & (at < self.lengths[:, None] - 1)


def open_shards(folder: Path) -> list[list[Answer]]:
    """Every shard, mapped rather than read."""
    files = sorted(folder.glob("*.pt"))
    if not files:
        raise TrainingError(f"{folder}: no answers in it", hint="`train.py generate` makes them")
    return [torch.load(file, mmap=True, weights_only=True) for file in files]


def long_enough(answers: Sequence[Answer], tokens: int) -> list[Answer]:
    """Those with at least so many tokens of answer."""
    return [answer for answer in answers if len(answer["ids"]) - answer["prompt_len"] >= tokens]


def pad(answers: Sequence[Answer], device: str) -> Batch:
    """A batch of `answers`."""
    size = max(len(answer["ids"]) for answer in answers)
    hidden, width = answers[0]["last"].shape[1], answers[0]["feats"].shape[1]
    ids = torch.zeros(len(answers), size, dtype=torch.int64)
    taps = torch.zeros(len(answers), size - 1, width)
    last = torch.zeros(len(answers), size - 1, hidden)
    lse = torch.zeros(len(answers), size - 1)
    for row, answer in enumerate(answers):
        end, first = len(answer["ids"]), answer["prompt_len"] - 1
        ids[row, :end] = answer["ids"]
        taps[row, : end - 1] = answer["feats"]
        last[row, first : end - 1] = answer["last"]
        lse[row, first : end - 1] = answer["lse"]
    lengths = torch.tensor([len(answer["ids"]) for answer in answers])
    prompts = torch.tensor([answer["prompt_len"] for answer in answers])
    parts = (part.to(device) for part in (ids, lengths, prompts, taps, last, lse))
    return Batch(**dict(zip(("ids", "lengths", "prompts", "taps", "last", "lse"), parts, strict=True)))


def draft_vocabulary(answers: Sequence[Answer], size: int, vocabulary: int) -> Tensor:
    """[size] int64, ascending: the ids that the target says most often, by count, then by id."""
    if size >= vocabulary:
        return torch.arange(vocabulary)
    counts = torch.zeros(vocabulary, dtype=torch.int64)
    for answer in answers:
        counts += torch.bincount(answer["ids"][answer["prompt_len"] :].long(), minlength=vocabulary)
    return torch.argsort(counts, descending=True, stable=True)[:size].sort().values


def shuffled(answers: Sequence[Answer], batch: int, generator: torch.Generator) -> Iterator[list[Answer]]:
    """Batches without end; every answer once before any a second time."""
    while True:
        order = torch.randperm(len(answers), generator=generator).tolist()
        for start in range(0, len(order) - batch + 1, batch):
            yield [answers[i] for i in order[start : start + batch]]
