"""What a generation was, in the keys that are the same wherever one is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dspark_calibration import Round, accepted_length, accepted_per_position

StopReason = Literal["eos", "length", "context", "cancelled"]


@dataclass
class Seconds:
    """Wall time. `prefill` runs to the first token; `draft` and `verify` are spent inside the engines
    after it; `other` is everything else after it, the caller's handling of streamed tokens included."""

    prefill: float = 0.0
    draft: float = 0.0
    verify: float = 0.0
    other: float = 0.0

    @property
    def decode(self) -> float:
        """From the first token to the last."""
        return self.draft + self.verify + self.other


@dataclass
class GenerationResult:
    """One finished generation. `token_ids` ends with the end-of-sequence token when `stop` is "eos"."""

    block_size: int
    token_ids: list[int] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    seconds: Seconds = field(default_factory=Seconds)
    stop: StopReason = "length"

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed: tokens after the first over the time they took; 0 when there was no second."""
        tokens = len(self.token_ids) - 1
        return tokens / self.seconds.decode if tokens > 0 and self.seconds.decode > 0 else 0.0

    def report(self, text: str) -> dict[str, Any]:
        """The JSON form."""
        return {
            "text": text,
            "token_ids": list(self.token_ids),
            "stop": self.stop,
            "rounds": len(self.rounds),
            "accepted_length": accepted_length(self.rounds),
            "accepted_per_position": accepted_per_position(self.rounds, self.block_size),
            "tokens_per_second": self.tokens_per_second,
            "seconds": vars(self.seconds).copy(),
        }


def first_stop(tokens: Sequence[int], eos: frozenset[int]) -> int:
    """How many of `tokens` are kept: up to and including the first end-of-sequence token."""
    return next((i + 1 for i, token in enumerate(tokens) if token in eos), len(tokens))
