"""Slow, plain decoding loops for one request: what every faster runtime has to reproduce."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from dspark_export.parity.blocks import GreedyDrafts
from dspark_export.parity.chain import ChainModule
from dspark_export.parity.drafter import DrafterModule
from dspark_export.parity.target import KeyValueCache, TargetModule


def greedy(target: TargetModule, prompt_ids: Sequence[int], max_new_tokens: int, eos_ids: Collection[int]) -> list[int]:
    """The target's greedy continuation: at most max_new_tokens ids; an end-of-sequence id is the last one."""
    cache, tokens, pending = KeyValueCache(len(target.layers)), list[int](), list(prompt_ids)
    while len(tokens) < max_new_tokens and not (tokens and tokens[-1] in eos_ids):
        logits, _ = target(torch.tensor([pending]), cache)
        tokens.append(int(logits[0, -1].argmax()))
        pending = tokens[-1:]
    return tokens


class Session:
    """The target's side of one speculative request: its cache, and what the drafter has not seen of it."""

    def __init__(self, target: TargetModule, taps: Sequence[int]) -> None:
        self.target, self.taps = target, taps
        self.cache = KeyValueCache(len(target.layers))
        self.ids = list[int]()
        self.features = torch.empty(0, len(taps) * target.spec.shape.hidden_size)
        self.drafted = 0

    def run(self, ids: Sequence[int]) -> list[int]:
        """Append tokens; the greedy successor of each."""
        logits, states = self.target(torch.tensor([ids]), self.cache)
        self.ids += ids
        self.features = torch.cat([self.features, self.target.features(states, self.taps)[0]])
        successors: list[int] = logits[0].argmax(-1).tolist()
        return successors

    def draft(self, drafts: GreedyDrafts, anchor: int) -> list[int]:
        """The greedy block behind all tokens and the anchor, gamma ids."""
        start, self.drafted = self.drafted, len(self.ids)
        next_ids = torch.tensor([*self.ids[start + 1 :], anchor])
        block: list[int] = drafts.block(self.features[start:], next_ids)[0].tolist()
        return block

    def roll_back(self, length: int) -> None:
        """Keep the first `length` tokens."""
        self.cache.truncate(length)
        self.features, self.ids = self.features[:length], self.ids[:length]


def accepted_prefix(drafts: Sequence[int], successors: Sequence[int], eos_ids: Collection[int]) -> int:
    """How many drafts to accept: the longest prefix equal to the target's choice, to an end of sequence."""
    for count, (draft, wanted) in enumerate(zip(drafts, successors, strict=False)):
        if draft != wanted:
            return count
        if draft in eos_ids:
            return count + 1
    return len(drafts)


def _round(session: Session, drafter: GreedyDrafts, anchor: int, limit: int) -> tuple[list[int], list[int]]:
    """Draft and verify at most `limit` tokens after the anchor; the drafts and the target's successors."""
    drafts = session.draft(drafter, anchor)[:limit] if limit > 0 else list[int]()
    return drafts, session.run([anchor, *drafts])


def speculative_greedy(
    target: TargetModule,
    drafter: DrafterModule | ChainModule,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    eos_ids: Collection[int],
) -> tuple[list[int], list[int]]:
    """`greedy` by speculation: the same tokens, and the number of drafts accepted in each round.

    The prefill gives the first anchor, which counts as a new token. A round verifies min(gamma, remaining-1)
    drafts and adds, after those accepted, the target's own next token: the next anchor. The last round may
    thus be a plain step (0 of 0 accepted). An accepted end of sequence ends the text: nothing follows it.
    """
    if max_new_tokens <= 0:
        return [], []
    session, blocks = Session(target, drafter.spec.target_layer_ids), GreedyDrafts(drafter)
    tokens, accepted_counts = session.run(prompt_ids)[-1:], list[int]()
    while len(tokens) < max_new_tokens and tokens[-1] not in eos_ids:
        start, remaining = session.cache.length, max_new_tokens - len(tokens)
        drafts, successors = _round(session, blocks, tokens[-1], min(drafter.spec.draft_length, remaining - 1))
        accepted = accepted_prefix(drafts, successors, eos_ids)
        session.roll_back(start + 1 + accepted)
        accepted_counts.append(accepted)
        tokens += drafts[:accepted]
        if tokens[-1] not in eos_ids:
            tokens.append(successors[accepted])
    return tokens, accepted_counts
