"""`dspark::Accept`: which drafted tokens stand, and the token after them (design §2, Leviathan et al. 2023).

R >= 1 rows, g = block_size, V vocabulary, K >= sum(verify_lengths + 1); lines of logits beyond that are not read.
Inputs, in this order:

    logits         [K, V]       the target's, all rows' tokens one after the other: behind row r's anchor, behind
                                its x_0, … up to x_{verify_lengths[r]-1}; tokens that a truncation excludes are -inf,
                                at least one token a line is not
    draft_ids      [R, g] int64 x, each in 0 .. V-1, also those that are not verified
    draft_logits   [R, g, V]    q_j = softmax(draft_logits_j / temperature), the distribution x_j was drawn from
    verify_lengths [R] int64    in 0 .. g: how many of a row's tokens are verified
    temperature    [R]          0 means greedy, else p_j = softmax(logits_j / temperature)
    uniforms       [R, g+1, 2]  in [0, 1): [:, j, 0] decides over x_j, [:, j, 1] draws the token of position j if the
                                row stops there

Outputs:

    accepted [R] int64  tokens of the row that stand, 0 .. verify_lengths
    next_ids [R] int64  the token behind them

A sampling row accepts x_j when uniform * q_j(x_j) <= p_j(x_j) and p_j(x_j) > 0, and stops at the first j that fails
or that is not verified. There it draws from max(p_j - q_j, 0) after a rejection, from p_j otherwise: the first i whose
cumulative weight exceeds uniform * (the sum of all weights). Where p_j and q_j are equal up to rounding (the rest sums
to `RESIDUAL_FLOOR` or less) it draws from p_j. A greedy row accepts x_j when it is the arg-max of logits_j and ends
with the arg-max; of equal logits the lower id wins. No row depends on another. All floating tensors are float32.

A line is broken when its greatest logit is not finite: where it holds NaN or +inf, or nothing but -inf. No token can be
chosen from it. A row whose next line is broken stops there: accepted counts the tokens before that line, and next_ids
is `BROKEN`. Lines behind the one where a row stops do not matter. Where q_j is broken instead, x_j does not stand, and
the row ends with a draw from p_j: nothing is known of how x_j was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

ACCEPT = "Accept"
INPUTS = ("logits", "draft_ids", "draft_logits", "verify_lengths", "temperature", "uniforms")
OUTPUTS = ("accepted", "next_ids")

BROKEN = -1
"""In place of a token: the target's logits for it are not finite."""

RESIDUAL_FLOOR = 1e-6
"""A residual of this mass is float32 noise. A rejection that meets one is no likelier than its mass."""


@dataclass(frozen=True)
class AcceptSpec:
    """What is fixed about the op. Raises `ValueError` for a block without tokens."""

    block_size: int

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise ValueError("block_size must be positive")

    def attributes(self) -> dict[str, int]:
        """The node's attributes, by name."""
        return {"block_size": self.block_size}
