"""Which of the target's tokens a drafter's rows stand for: tensors `d2t` and `t2d`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dspark_engines.arrays import Ints
from dspark_engines.bundle.vocabulary import is_vocabulary
from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.safetensors_source import SafetensorsSource

D2T, T2D = "d2t", "t2d"
"""[Vd] int64: what is added to a place to get its id; [V] bool: which ids those are."""
SAVE_AGAIN = "save the drafter again"


def read_draft_ids(path: Path, source: SafetensorsSource, size: int, drafted: int) -> Ints:
    """The ids [Vd] that can be drafted, `drafted` of `size`, in the order of the rows; none where these are all.

    Raises `CheckpointError` where d2t is no choice of them.
    """
    if drafted == size:
        _check_unmoved(path, source)
        return np.zeros(0, np.int64)
    if D2T not in source.shapes:
        raise CheckpointError(f"{path}: draft_vocab_size is {drafted}, but no tensor d2t", hint="save it again")
    offsets = source.load_integers(D2T)
    if offsets.shape != (drafted,) or not is_vocabulary(np.sort(offsets + np.arange(drafted)), size):
        raise CheckpointError(f"{path}: d2t does not give {drafted} different ids below {size}", hint=SAVE_AGAIN)
    ids = offsets + np.arange(drafted)
    if T2D in source.shapes and np.flatnonzero(source.load_integers(T2D)).tolist() != np.sort(ids).tolist():
        raise CheckpointError(f"{path}: d2t and t2d name different tokens", hint=SAVE_AGAIN)
    return ids


def _check_unmoved(path: Path, source: SafetensorsSource) -> None:
    """Raises `CheckpointError` where d2t gives the tokens of a whole vocabulary other ids."""
    if D2T in source.shapes and source.load_integers(D2T).any():
        raise CheckpointError(
            f"{path}: draft_vocab_size is the whole vocabulary, and d2t moves its tokens", hint=SAVE_AGAIN
        )
