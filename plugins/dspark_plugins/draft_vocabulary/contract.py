"""`dspark::ExpandVocabulary`: draft logits over a reduced vocabulary, laid out over the target's.

logits [..., Vd] float32, place [V] int64 -> [..., V]: entry v is logits[..., place[v]], and -infinity where place[v]
is Vd, which is said of every token that cannot be drafted. Accepting compares q with the target's p over all of V, so
what is not drafted has q = 0. A backend whose host accepts may leave this op out, and lay out what is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dspark_plugins.arrays import Ints

EXPAND = "ExpandVocabulary"


def places(vocabulary: Sequence[int], size: int) -> Ints:
    """`place` [size] for the ids that can be drafted, in their order."""
    found = np.full(size, len(vocabulary), np.int64)
    found[np.asarray(vocabulary, np.int64)] = np.arange(len(vocabulary))
    return found
