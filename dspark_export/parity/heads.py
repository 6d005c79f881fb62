"""The sequential part of the drafter: Markov heads, confidence head and the loops that draft with them.

Position j of a block has base logits U_j and hidden state h_j; e_j = W1[x_{j-1}] embeds the token before it
(x_{-1} is the anchor).  Letters in shapes: V vocabulary, H hidden, r Markov rank, gamma block size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from dspark_export.checkpoints.spec import ConfidenceSpec, MarkovSpec

Draft = tuple[Tensor, Tensor, Tensor]
Choice = Callable[[int, Tensor], Tensor]


class MarkovHead(nn.Module):
    """Vanilla head, and the base of the others: logits_j = U_j + W2 e_j."""

    def __init__(self, vocab_size: int, draft_vocab_size: int, hidden_size: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.markov_w1 = nn.Embedding(vocab_size, rank)
        self.markov_w2 = nn.Linear(rank, draft_vocab_size, bias=False)

    def embed(self, token_id: Tensor) -> Tensor:
        """W1[token_id]: int64 [] to [r]."""
        embedding: Tensor = self.markov_w1(token_id)
        return embedding

    def start(self) -> Tensor:
        """The state before a block, [r]."""
        return torch.zeros(self.rank)

    def forward(self, embedding: Tensor, hidden: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """e_j [r], h_j [H], state [r] to what is added to U_j, [V], and the next state."""
        return self.markov_w2(embedding), state


class GatedMarkovHead(MarkovHead):
    """logits_j = U_j + W2 (sigmoid(G [h_j; e_j] + b) * e_j)."""

    def __init__(self, vocab_size: int, draft_vocab_size: int, hidden_size: int, rank: int) -> None:
        super().__init__(vocab_size, draft_vocab_size, hidden_size, rank)
        self.gate_proj = nn.Linear(hidden_size + rank, rank)

    def forward(self, embedding: Tensor, hidden: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        gate = self.gate_proj(torch.cat([hidden, embedding])).sigmoid()
        return self.markov_w2(gate * embedding), state


class RnnMarkovHead(MarkovHead):
    """logits_j = U_j + W2 tanh(o), and s <- sigmoid(g) * s + (1 - sigmoid(g)) * tanh(c).

    [g; c; o] = J [s; e_j; h_j] + b; the state s is zero before a block.
    """

    def __init__(self, vocab_size: int, draft_vocab_size: int, hidden_size: int, rank: int) -> None:
        super().__init__(vocab_size, draft_vocab_size, hidden_size, rank)
        self.joint_proj = nn.Linear(2 * rank + hidden_size, 3 * rank)

    def forward(self, embedding: Tensor, hidden: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        gate, candidate, output = self.joint_proj(torch.cat([state, embedding, hidden])).chunk(3)
        keep = gate.sigmoid()
        return self.markov_w2(output.tanh()), keep * state + (1 - keep) * candidate.tanh()


MARKOV_HEADS: dict[str, type[MarkovHead]] = {
    "vanilla": MarkovHead,
    "gated": GatedMarkovHead,
    "rnn": RnnMarkovHead,
}


def build_markov_head(spec: MarkovSpec, vocab_size: int, draft_vocab_size: int, hidden_size: int) -> MarkovHead | None:
    """The head of this kind; None for "none"."""
    if spec.kind == "none":
        return None
    if spec.kind not in MARKOV_HEADS:
        raise ValueError(f"unknown Markov head {spec.kind!r}; known: none, {', '.join(MARKOV_HEADS)}")
    return MARKOV_HEADS[spec.kind](vocab_size, draft_vocab_size, hidden_size, spec.rank)


class ConfidenceHead(nn.Module):
    """c_j = w . [h_j; e_j] + b, or w . h_j + b without the Markov part.

    It is the logit of an estimate of P(x_j accepted | all before it accepted).
    """

    def __init__(self, hidden_size: int, markov_rank: int) -> None:
        super().__init__()
        self.proj = nn.Linear(hidden_size + markov_rank, 1)

    def forward(self, hidden: Tensor, embedding: Tensor | None) -> Tensor:
        """h_j [H], e_j [r] (None without the Markov part) to a logit []."""
        inputs = hidden if embedding is None else torch.cat([hidden, embedding])
        logit: Tensor = self.proj(inputs)
        return logit.squeeze(-1)


def build_confidence_head(spec: ConfidenceSpec, markov: MarkovSpec, hidden_size: int) -> ConfidenceHead | None:
    """The head, or None when the drafter has none."""
    if not spec.enabled:
        return None
    if spec.with_markov and markov.kind == "none":
        raise ValueError("the confidence head wants the Markov embedding, but the drafter has no Markov head")
    return ConfidenceHead(hidden_size, markov.rank if spec.with_markov else 0)


class DraftHeads(nn.Module):
    """Both heads of a drafter, either of which may be absent. `vocabulary`: the ids that it can draft; empty is all."""

    def __init__(
        self,
        markov: MarkovSpec,
        confidence: ConfidenceSpec,
        vocab_size: int,
        hidden_size: int,
        vocabulary: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.with_markov, self.vocab_size, self.vocabulary = confidence.with_markov, vocab_size, list(vocabulary)
        self.markov_head = build_markov_head(markov, vocab_size, len(vocabulary) or vocab_size, hidden_size)
        self.confidence_head = build_confidence_head(confidence, markov, hidden_size)

    def token(self, chosen: Tensor) -> Tensor:
        """The id of a place in the draft vocabulary, [] each."""
        return torch.tensor(self.vocabulary)[chosen] if self.vocabulary else chosen

    def over_all(self, logits: Tensor) -> Tensor:
        """Logits [Vd] laid out over the target's vocabulary, [V]; -inf for what cannot be drafted."""
        if not self.vocabulary:
            return logits
        wide = torch.full((self.vocab_size,), -math.inf)
        wide[self.vocabulary] = logits
        return wide

    def confidence(self, hidden: Tensor, embedding: Tensor | None) -> Tensor:
        """The confidence logit []; +inf (never doubted) when the head is absent."""
        if self.confidence_head is None:
            return torch.tensor(math.inf)
        logit: Tensor = self.confidence_head(hidden, embedding if self.with_markov else None)
        return logit


def inverse_cdf(logits: Tensor, temperature: float, uniform: float) -> Tensor:
    """The first index whose cumulative probability, in softmax(logits [V] / temperature), exceeds uniform.

    uniform is in [0, 1). Returns int64 []. Sums are float64, so that their order hardly matters; when no
    index is above after all, the last one is drawn.
    """
    cumulative = (logits.double() / temperature).softmax(-1).cumsum(-1)
    above = cumulative > uniform * cumulative[-1]
    return above.int().argmax() if bool(above.any()) else torch.tensor(len(logits) - 1)


def _draft(heads: DraftHeads, base_logits: Tensor, hidden: Tensor, anchor_id: int, choose: Choice) -> Draft:
    markov = heads.markov_head
    previous, state = torch.tensor(anchor_id), markov.start() if markov is not None else None
    ids, confidences, logits = [], [], []
    for j, (base, h) in enumerate(zip(base_logits, hidden, strict=True)):
        embedding = markov.embed(previous) if markov is not None else None
        confidences.append(heads.confidence(h, embedding))
        if markov is not None:
            bias, state = markov(embedding, h, state)
            base = base + bias
        previous = heads.token(choose(j, base))
        ids.append(previous)
        logits.append(heads.over_all(base))
    return torch.stack(ids), torch.stack(confidences), torch.stack(logits)


def draft_greedy(heads: DraftHeads, base_logits: Tensor, hidden: Tensor, anchor_id: int) -> Draft:
    """Draft a block, best token first (the lowest id wins a tie).

    base_logits [gamma, V]; hidden [gamma, H]. Returns draft ids int64 [gamma], confidence logits [gamma]
    (+inf without the head) and the logits of the draft distributions, Markov part included, [gamma, V].
    """
    return _draft(heads, base_logits, hidden, anchor_id, lambda _, logits: logits.argmax())


def draft_sampled(
    heads: DraftHeads,
    base_logits: Tensor,
    hidden: Tensor,
    anchor_id: int,
    temperature: float,
    uniforms: Tensor,
) -> Draft:
    """As `draft_greedy`, drawing x_j from softmax(logits_j / temperature) with uniforms [gamma] in [0, 1).

    The returned logits are not divided by the temperature. Temperature 0 is greedy.
    """
    if temperature == 0:
        return draft_greedy(heads, base_logits, hidden, anchor_id)

    def choose(j: int, logits: Tensor) -> Tensor:
        return inverse_cdf(logits, temperature, float(uniforms[j]))

    return _draft(heads, base_logits, hidden, anchor_id, choose)
