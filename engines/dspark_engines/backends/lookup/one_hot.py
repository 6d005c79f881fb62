"""The draft distribution of a drafter that does not draw: all of it on one token."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_engines.arrays import Ints
from dspark_engines.sampling.contract import HeldLogits


class OneHotLogits(HeldLogits):
    """q of draft_ids [R, g] out of `size` tokens: logit 0 for the drafted one, -infinity for all others.

    A temperature changes nothing of it, so rejection sampling accepts x with probability p(x), and draws from p
    without x otherwise.
    """

    def __init__(self, draft_ids: Ints, size: int) -> None:
        self._ids, self._size = draft_ids, size

    def __len__(self) -> int:
        return len(self._ids)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        wide = np.full((*self._ids.shape, self._size), -np.inf, dtype or np.float32)
        np.put_along_axis(wide, self._ids[..., None], 0.0, axis=-1)
        return wide
