"""How a request's tokens are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from dspark_engines.errors import RequestError

COLDEST, HOTTEST = 1e-44, 3e38
"""Temperatures are float32: less would be 0, more infinite."""
SEEDS = 2**64
"""Seeds are below this: they are the 64-bit key of the counter-based stream."""


@dataclass(frozen=True)
class SamplingParams:
    """Temperature 0 is greedy decoding; the truncations are applied in the order of the fields.

    top_k 0, top_p 1 and min_p 0 exclude nothing. Two requests with one seed and one prompt get one output: whoever
    makes many requests of one user's seed gives each its own. Raises `RequestError` for a value out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature == 0 or COLDEST <= self.temperature <= HOTTEST):
            raise RequestError(
                f"temperature is {self.temperature}",
                hint=f"use 0 for greedy decoding, or {COLDEST:g} to {HOTTEST:g}",
            )
        if self.top_k < 0:
            raise RequestError(f"top_k is {self.top_k}", hint="use a positive count, or 0 to keep all tokens")
        if not 0 < self.top_p <= 1:
            raise RequestError(f"top_p is {self.top_p}", hint="use a share above 0 and up to 1; 1 keeps all tokens")
        if not 0 <= self.min_p < 1:
            raise RequestError(f"min_p is {self.min_p}", hint="use a share from 0 to below 1; 0 keeps all tokens")
        if not 0 <= self.seed < SEEDS:
            raise RequestError(f"seed is {self.seed}", hint=f"use a whole number from 0 to {SEEDS - 1}")

    @property
    def greedy(self) -> bool:
        """Whether every token is the arg-max."""
        return self.temperature == 0

    @property
    def truncates(self) -> bool:
        """Whether some token may be excluded. The arg-max never is, so greedy decoding needs no truncation."""
        return not self.greedy and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)
