"""A drafter cut down to a part of the target's vocabulary: fewer lines in its head and in the Markov head's W2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dspark_engines.arrays import Ints
from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.tensors import Array, Entry, Weights

CUT = ("lm_head.weight", "markov_head.markov_w2.weight")
"""Tensors with a line for each token that can be drafted."""
SMALLEST = 256
"""Fewer tokens make no text."""


def check_vocabulary(where: str, ids: Sequence[int], vocab_size: int) -> None:
    """Raises `CheckpointError` for ids, named by `where`, that are no draft vocabulary."""
    outside = next((i for i in ids if not 0 <= i < vocab_size), None)
    if outside is not None:
        raise CheckpointError(
            f"{where}: token id {outside} lies outside the vocabulary of {vocab_size}", hint="drop it"
        )
    if len(set(ids)) < len(ids):
        twice = next(i for n, i in enumerate(ids) if i in ids[:n])
        raise CheckpointError(f"{where}: token id {twice} is there twice", hint="name every token once")
    check_size(where, len(ids), vocab_size)


def check_size(where: str, size: int, vocab_size: int) -> None:
    """Raises `CheckpointError` for a number of tokens that no draft vocabulary has."""
    if not SMALLEST <= size <= vocab_size:
        raise CheckpointError(
            f"{where}: a draft vocabulary of {size} tokens", hint=f"{SMALLEST} to {vocab_size}, all that the target has"
        )


def reduce_drafter(drafter: DrafterCheckpoint, ids: Sequence[int]) -> DrafterCheckpoint:
    """`drafter` that drafts these tokens only; nothing is loaded. Raises `CheckpointError` for one that is reduced."""
    spec, kept = drafter.spec, np.sort(np.asarray(ids, np.int64))
    if spec.draft_vocabulary:
        raise CheckpointError(
            f"{drafter.path}: comes with a draft vocabulary of {len(spec.draft_vocabulary)} tokens, which it was "
            "trained for",
            hint="leave out --draft-vocabulary",
        )
    entries = {
        name: _cut(entry, kept, drafter.weights.shapes[name][1]) if name in CUT else entry
        for name, entry in drafter.weights.entries.items()
    }
    weights = Weights(drafter.weights.path, drafter.weights.source, entries)
    return replace(drafter, spec=replace(spec, draft_vocabulary=tuple(kept.tolist())), weights=weights)


def in_rising_order(entries: Mapping[str, Entry], ids: Ints) -> dict[str, Entry]:
    """`entries` of a drafter whose rows stand for the tokens `ids` [Vd], its rows sorted by id as they load.

    A `DrafterSpec` has its draft vocabulary rising; not every tool writes `d2t` so.
    """
    order = np.argsort(ids)
    if np.array_equal(order, np.arange(len(ids))):
        return dict(entries)
    return {
        name: replace(entry, transform=_rows(entry, order)) if name in CUT else entry for name, entry in entries.items()
    }


def _cut(entry: Entry, kept: Ints, width: int) -> Entry:
    return Entry(entry.source_name, _rows(entry, kept), shape=(len(kept), width))


def _rows(entry: Entry, rows: Ints) -> Callable[[Array], Array]:
    """Of what `entry` gives, these rows in this order."""

    def transform(array: Array) -> Array:
        whole = array if entry.transform is None else entry.transform(array)
        return whole[rows]

    return transform
