"""Prompts to fit on and prompts to validate on. Never rounds: rounds of one prompt resemble each other."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from dspark_calibration.errors import CalibrationError
from dspark_calibration.traces.header import PromptRef


class Split(NamedTuple):
    """Indices of prompts, ascending."""

    fit: list[int]
    validation: list[int]


def split_prompts(prompts: Sequence[PromptRef]) -> Split:
    """Halves of every source, alternating in the order of the ids' hashes: the same whatever order the file has.

    Raises `CalibrationError` when an id occurs twice or there are fewer than two prompts.
    """
    ((name, count),) = Counter(ref.id for ref in prompts).most_common(1) or [("", 0)]
    if count > 1:
        raise CalibrationError(
            f"prompt id {name} occurs {count} times: it could end up in both halves", hint="give each prompt its own id"
        )
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i].source, _hash(prompts[i].id)))
    halves: Split = Split([], [])
    for rank, index in enumerate(order):
        halves[rank % 2].append(index)
    if not halves.validation:
        raise CalibrationError(f"{len(prompts)} prompt cannot be split", hint="pass at least two prompts")
    return Split(sorted(halves.fit), sorted(halves.validation))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
