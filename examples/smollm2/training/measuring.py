"""The accepted length of a drafter in a plain loop: greedy drafts, the target in float32, nothing of the runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM

from training.target import tap_layers

Propose = Callable[[Tensor, Tensor, Tensor], list[int]]
"""Draft tokens after ids [n], from taps [n-1, L*H] and last states [n-1, H]."""


@dataclass
class Tally:
    """Rounds by the number of draft tokens that they accept, and the tokens that they give."""

    rounds: Counter[int] = field(default_factory=Counter)
    tokens: int = 0

    def add(self, accepted: int, tokens: int) -> None:
        """Count a round; its `tokens` are fewer than accepted + 1 where the answer ends in it."""
        self.rounds[accepted] += 1
        self.tokens += tokens

    @property
    def length(self) -> float:
        """Tokens a round, the target's own included."""
        return self.tokens / max(1, self.rounds.total())

    def survival(self, depth: int) -> list[float]:
        """The share of rounds that accept at least 1 … depth draft tokens."""
        total = max(1, self.rounds.total())
        return [sum(n for length, n in self.rounds.items() if length >= k) / total for k in range(1, depth + 1)]


class Reader:
    """The target over a growing text: its choices, and the states that drafters read."""

    def __init__(self, model: LlamaForCausalLM, taps: int = 5) -> None:
        self.model, self.cache = model, DynamicCache()
        self.layers = tap_layers(model.config.num_hidden_layers, taps)
        self.taps = self.last = torch.empty(0)

    def read(self, ids: Tensor) -> Tensor:
        """Choices [n] after each of the next tokens `ids` [n]; their states are appended."""
        out = self.model(input_ids=ids[None], past_key_values=self.cache, use_cache=True, output_hidden_states=True)
        taps = torch.cat([out.hidden_states[layer + 1][0] for layer in self.layers], -1)
        last = out.hidden_states[-1][0]
        self.taps = torch.cat([self.taps, taps]) if self.taps.numel() else taps
        self.last = torch.cat([self.last, last]) if self.last.numel() else last
        return out.logits[0].argmax(-1)

    def forget(self, tokens: int) -> None:
        """Drop the last `tokens` of the text."""
        if tokens:
            self.cache.crop(-tokens)  # a negative number: so many from the end
            self.taps, self.last = self.taps[:-tokens], self.last[:-tokens]


@torch.inference_mode()
def answer(model: LlamaForCausalLM, propose: Propose, prompt: Tensor, tokens: int, end: int, tally: Tally) -> list[int]:
    """At most so many tokens after `prompt` [n], up to and with `end`; every round is counted in `tally`.

    The target's first token comes of the prompt and belongs to no round.
    """
    reader = Reader(model)
    answered = [int(reader.read(prompt)[-1])]
    while len(answered) < tokens and answered[-1] != end:
        ids = torch.cat([prompt, torch.tensor(answered)])
        drafted = propose(ids, reader.taps, reader.last)
        best = reader.read(torch.tensor([answered[-1], *drafted])).tolist()
        accepted = next((i for i, token in enumerate(drafted) if token != best[i]), len(drafted))
        reader.forget(len(drafted) - accepted)
        new = up_to(end, [*drafted[:accepted], best[accepted]])
        tally.add(accepted, len(new))
        answered += new
    return answered


def up_to(end: int, tokens: list[int]) -> list[int]:
    """`tokens` up to and with the first `end`."""
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


def measure(
    model: LlamaForCausalLM, propose: Propose, prompts: Iterable[tuple[str, Tensor]], tokens: int, end: int
) -> dict[str, Tally]:
    """Tallies by kind of prompt."""
    tallies: dict[str, Tally] = {}
    for kind, prompt in prompts:
        answer(model, propose, prompt, tokens, end, tallies.setdefault(kind, Tally()))
    return tallies


def report(tallies: Mapping[str, Tally], depth: int) -> dict[str, Any]:
    """What was measured, all prompts together and by their kind."""
    rounds = sum((tally.rounds for tally in tallies.values()), Counter[int]())
    whole = Tally(rounds, sum(tally.tokens for tally in tallies.values()))
    return {
        "rounds": rounds.total(),
        "accepted_length": round(whole.length, 3),
        "by_source": {kind: round(tally.length, 3) for kind, tally in tallies.items()},
        "survival": [round(share, 3) for share in whole.survival(depth)],
    }
