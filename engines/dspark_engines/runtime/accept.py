"""The greedy limit of speculative verification (design §2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dspark_engines.backends import Floats, Ints


class Acceptance(NamedTuple):
    """`accepted` draft tokens, then the target's own `next_token`."""

    accepted: int
    next_token: int


def accept_greedy(logits: Floats, draft_ids: Ints) -> Acceptance:
    """Longest prefix of draft_ids [l] equal to the arg-max of logits [l+1, V]; of equal logits the first wins."""
    choices = np.argmax(logits, axis=-1)
    wrong = np.flatnonzero(choices[:-1] != draft_ids)
    accepted = int(wrong[0]) if wrong.size else len(draft_ids)
    return Acceptance(accepted, int(choices[accepted]))
