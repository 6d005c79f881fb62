"""`dspark::ExpertMlp`: every token through the experts that its router chose, and their weighted sum.

x [N, H], shares [N, k], chosen [N, k] int64, gate_up [E, 2I, H], down [E, H, I], and with `biased` gate_up_bias [E, 2I]
and down_bias [E, H] -> y [N, H]; floating tensors are float32.

    y[n] = sum over j of shares[n, j] * down[e](bend(gate) * (up + up_offset)),    e = chosen[n, j]

gate and up are the first and the second I entries of gate_up[e] times x[n]. bend(g) is g * sigmoid(alpha * g), or with
the `activation` "gelu_tanh" (Gemma 4) GELU in its tanh approximation, and no alpha. With a `limit` c, gate is first cut
to at most c and up to -c ... c (gpt-oss). A token's experts differ from each other; of two that do not, only the last
counts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

EXPERT_MLP = "ExpertMlp"


@dataclass(frozen=True, kw_only=True)
class ExpertMlpSpec:
    """The op's attributes."""

    biased: bool = False
    alpha: float = 1.0
    limit: float = 0.0
    up_offset: float = 0.0
    activation: Literal["silu", "gelu_tanh"] = "silu"

    def attributes(self) -> dict[str, int | float | str]:
        """The node's attributes, by name."""
        return asdict(self) | {"biased": int(self.biased)}

    def inputs(self) -> tuple[str, ...]:
        """Names of the op's inputs, in order."""
        return ("x", "shares", "chosen", "gate_up", "down", *(("gate_up_bias", "down_bias") if self.biased else ()))
