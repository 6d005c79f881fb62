"""NumPy oracle of `dspark::ExpandVocabulary`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dspark_plugins.arrays import Ints

Array = npt.NDArray[np.float32]


def expand_vocabulary(logits: Array, place: Ints) -> Array:
    """[..., Vd] to [..., V]."""
    out = np.full((*logits.shape[:-1], len(place)), -np.inf, np.float32)
    known = place < logits.shape[-1]
    out[..., known] = logits[..., place[known]]
    return out
