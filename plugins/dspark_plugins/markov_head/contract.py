"""`dspark::MarkovHead`: the sequential head and the confidence head of a block, as one op.

B rows, g = block_size, V vocabulary, H hidden size, r = rank. Inputs, in this order (design §2):

    base_logits [B, g, V]   U, the parallel backbone's logits
    anchor_ids  [B] int64   x_{-1}
    hidden      [B, g, H]   h, after the drafter's final norm
    temperature [B]         0 means greedy, else q_j = softmax(logits_j / temperature)
    uniforms    [B, g]      in [0, 1): draft token j is the first i with cdf_j(i) > uniforms_j * total
    w1 [V, r], w2 [V, r]                        unless kind is "none"
    w2 [r, V] int8, w2_scale [V]                instead of w2 when `int8` (see int8_linear/contract.py)
    mix_weight [r, H+r] or [3r, 2r+H], mix_bias gated (input [h; e]) or rnn (input [s; e; h])
    confidence_weight [1, H(+r)], confidence_bias [1]   when there is a confidence head
    vocabulary [Vd] int64                       with `reduced`: the ids that can be drafted, rising. base_logits, w2 and
                                                draft_logits then have Vd lines instead of V, w1 keeps V

Outputs:

    draft_ids         [B, g] int64
    confidence_logits [B, g]     c_j, raw; +inf everywhere when there is no confidence head
    draft_logits      [B, g, V]  base plus Markov bias, before temperature: with `temperature` all that a
                                 rejection test needs of q

All floating tensors are float32. Equal logits: the lower token id wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MARKOV_HEAD = "MarkovHead"
OUTPUTS = ("draft_ids", "confidence_logits", "draft_logits")

Kind = Literal["none", "vanilla", "gated", "rnn"]
KINDS: tuple[Kind, ...] = ("none", "vanilla", "gated", "rnn")


@dataclass(frozen=True)
class MarkovHeadSpec:
    """What is fixed about one drafter's head. Raises `ValueError` for an impossible combination.

    `hidden_size` is 0 where it is not known: kernels need it, the function body finds it in the weights.
    """

    kind: Kind
    block_size: int
    rank: int
    hidden_size: int
    confidence: bool
    confidence_with_markov: bool
    int8: bool = False
    reduced: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Markov head kind {self.kind!r} is none of {', '.join(KINDS)}")
        if self.block_size < 1 or self.hidden_size < 0:
            raise ValueError("block_size must be positive, and hidden_size not negative")
        if (self.kind == "none") != (self.rank == 0):
            raise ValueError(f"Markov head kind {self.kind!r} does not go with rank {self.rank}")
        if self.confidence_with_markov and not (self.confidence and self.rank):
            raise ValueError("confidence_with_markov needs a confidence head and a Markov head")
        if self.int8 and self.kind == "none":
            raise ValueError("without a Markov head there is no w2 to be int8")

    def inputs(self) -> tuple[str, ...]:
        """Input names, in order."""
        names: tuple[str, ...] = ("base_logits", "anchor_ids", "hidden", "temperature", "uniforms")
        if self.kind != "none":
            names += ("w1", "w2", "w2_scale") if self.int8 else ("w1", "w2")
        if self.kind in ("gated", "rnn"):
            names += ("mix_weight", "mix_bias")
        if self.confidence:
            names += ("confidence_weight", "confidence_bias")
        return (*names, "vocabulary") if self.reduced else names

    def attributes(self) -> dict[str, int | str]:
        """The node's attributes, by name."""
        values: dict[str, int | str] = {
            "kind": self.kind,
            "block_size": self.block_size,
            "rank": self.rank,
            "confidence": int(self.confidence),
            "confidence_with_markov": int(self.confidence_with_markov),
        }
        flags = {"int8": self.int8, "reduced": self.reduced}
        return values | {name: 1 for name, value in flags.items() if value}
