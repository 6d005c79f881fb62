"""Gemma 4's stacks of experts as transformers saves them: gate and up in one tensor."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from dspark_export.checkpoints.tensors import Array, Entry, Shape

DOWN, GATE_UP = ".experts.down_proj", ".experts.gate_up_proj"


def split_experts(name: str, entry: Entry, shape: Shape) -> dict[str, Entry]:
    """`experts.gate_up_proj` [E, 2I, H] as one tensor a projection; what is no such stack as it is."""
    if name.endswith(DOWN):
        return {f"{name}.weight": entry}
    if not name.endswith(GATE_UP) or len(shape) != 3 or shape[1] % 2:
        return {name: entry}
    count, both, width = shape
    stem, inner = name.removesuffix("gate_up_proj"), both // 2
    rows = {"gate": slice(0, inner), "up": slice(inner, both)}
    return {
        f"{stem}{one}_proj.weight": replace(entry, transform=partial(_part, rows=part), shape=(count, inner, width))
        for one, part in rows.items()
    }


def _part(array: Array, *, rows: slice) -> Array:
    return np.ascontiguousarray(array[:, rows])
