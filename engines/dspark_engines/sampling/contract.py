"""What accepting drafts takes and gives, whoever does it: the host, or an engine on its device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_engines.arrays import Floats, Ints


class HeldLogits(ABC):
    """Draft logits [R, g, V] float32 that stay as they were computed, until their slots draft again.

    As an array they are a copy on the host.
    """

    def on_host(self) -> Floats | None:
        """What of them is on the host already, over whichever tokens, [R, g, n]; None where nothing is."""
        return None

    @abstractmethod
    def __len__(self) -> int:
        """R."""

    @abstractmethod
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """NumPy's protocol: a copy."""


class ReducedLogits(HeldLogits):
    """Logits [R, g, Vd] over the tokens `vocabulary` [Vd] that can be drafted, out of `size` that there are."""

    def __init__(self, logits: Floats, vocabulary: Ints, size: int) -> None:
        self._logits, self._vocabulary, self._size = logits, vocabulary, size

    def on_host(self) -> Floats:
        return self._logits

    def __len__(self) -> int:
        return len(self._logits)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """-infinity for what cannot be drafted."""
        wide = np.full((*self._logits.shape[:2], self._size), -np.inf, dtype or np.float32)
        wide[:, :, self._vocabulary] = self._logits
        return wide


DraftLogits = Floats | HeldLogits


class AcceptInputs(NamedTuple):
    """Of the T rows of a step that ask for logits, in their order: inputs of `dspark::Accept`.

    draft_ids [T, g], verify_lengths [T], temperature [T]; draft_logits [D, g, V] of the rows with drafts, which come
    first ([D, g, 0] where these are greedy); uniforms [T, n, 2], n the longest verify length and one. A row asks for
    the logits of its last verify_length + 1 tokens.
    """

    draft_ids: Ints
    draft_logits: DraftLogits
    verify_lengths: Ints
    temperature: Floats
    uniforms: Floats


class Accepted(NamedTuple):
    """accepted [T], next_ids [T]: the outputs of `dspark::Accept`."""

    accepted: Ints
    next_ids: Ints
