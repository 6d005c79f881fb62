"""The ids that a drafter can draft, where these are not all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dspark_engines.arrays import Ints
from dspark_engines.bundle.open import Bundle
from dspark_engines.errors import BundleError


def load_vocabulary(bundle: Bundle) -> tuple[Ints | None, int]:
    """The ids [Vd], None where all can be drafted, and how many the target has. Raises `BundleError`."""
    info, size = bundle.manifest.drafter.draft_vocabulary, bundle.manifest.target.vocab_size
    if info is None:
        return None, size
    path = bundle.file(info.path)
    try:
        ids = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: not readable: {error}", hint="build the bundle again") from None
    if ids.shape != (info.size,) or ids.dtype != np.int64 or not is_vocabulary(ids, size):
        raise BundleError(f"{path}: not {info.size} rising ids below {size}", hint="build the bundle again")
    return ids, size


def save_vocabulary(ids: Ints, root: Path, suffix: str = "") -> None:
    """Write them into the bundle under `root`; a further drafter's file has a `suffix`."""
    np.save(root / vocabulary_file(suffix), ids.astype(np.int64), allow_pickle=False)


def vocabulary_file(suffix: str = "") -> str:
    """Where they are in a bundle."""
    return f"onnx/draft_vocabulary{suffix}.npy"


def given_vocabulary(bundle: Bundle) -> tuple[int, ...]:
    """The same as a plan of a build has it: empty where the drafter came with it, or has none."""
    info = bundle.manifest.drafter.draft_vocabulary
    ids = None if info is None or info.own else load_vocabulary(bundle)[0]
    return () if ids is None else tuple(ids.tolist())


def is_vocabulary(ids: Ints, size: int) -> bool:
    """Whether these are ids of some of `size` tokens, rising, and not none."""
    return bool(ids.size and (np.diff(ids) > 0).all() and ids[0] >= 0 and ids[-1] < size)
