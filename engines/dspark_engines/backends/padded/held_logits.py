"""Draft logits that stay on the device between drafting and accepting, as the engines see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dspark_engines.arrays import Floats
from dspark_engines.sampling.contract import HeldLogits


class LogitKeeper(Protocol):
    """Whoever has them, by cache row."""

    def keep(self, places: Sequence[int]) -> None:
        """Hold what the draft engine's last launch put out for these cache rows, until they are kept again."""

    def lay_out(self, places: Sequence[int]) -> None:
        """Put those of these cache rows where the accept engine reads, in this order."""

    def upload(self, lines: Floats) -> None:
        """Put lines [n, g, V] of the host there, which no engine of ours has drafted."""

    def fetch(self, places: Sequence[int]) -> Floats:
        """A copy on the host, [n, g, V]."""


class PaddedHeldLogits(HeldLogits):
    """Those of one step's rows, which stand at these `places` of the caches."""

    def __init__(self, keeper: LogitKeeper, places: Sequence[int]) -> None:
        self._keeper, self.places = keeper, list(places)

    def __len__(self) -> int:
        return len(self.places)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self._keeper.fetch(self.places).astype(dtype or np.float32, copy=False)
