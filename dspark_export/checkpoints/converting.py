"""From one layout of drafters to another, every number as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from dspark_engines.bundle import atomic_directory, check_destination, output_error
from dspark_engines.errors import CheckpointError, OutputError
from dspark_engines.progress import Step
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint, TargetCheckpoint
from dspark_export.checkpoints.dialects.deepspec import DeepSpecDialect
from dspark_export.checkpoints.dialects.speculators import SpeculatorsDialect
from dspark_export.checkpoints.open import open_drafter, open_target
from dspark_export.checkpoints.spec import DrafterSpec

Write = Callable[[DrafterCheckpoint, TargetCheckpoint, Path], None]


def _gguf(drafter: DrafterCheckpoint, target: TargetCheckpoint, folder: Path) -> None:
    from dspark_export.checkpoints.dialects.gguf_drafter_file import write_gguf_drafter

    write_gguf_drafter(drafter, target, folder)


LAYOUTS: dict[str, Write] = {
    "deepspec": lambda drafter, _, folder: DeepSpecDialect().write(drafter, folder),
    "speculators": lambda drafter, _, folder: SpeculatorsDialect().write(drafter, folder),
    "gguf": _gguf,
}


def convert_drafter(drafter: Path, target: Path, layout: str, output: Path, step: Step) -> int:
    """Write `drafter` to `output`, a directory or for "gguf" a file, read it back and compare: the number of tensors.

    `target` is its target's checkpoint. Raises `CheckpointError` for what the layout cannot say, `OutputError` where
    something is there already; nothing is left behind then.
    """
    opened = open_target(target)
    checkpoint = open_drafter(drafter, opened.spec)
    _check_kind(checkpoint)
    if layout != "gguf":
        check_destination(output, overwrite=False)
        with atomic_directory(output) as folder:
            LAYOUTS[layout](checkpoint, opened, folder)
            return _compared(checkpoint, open_drafter(folder, opened.spec), step)
    if output.exists() or output.is_symlink():
        raise OutputError(f"{output}: already exists", hint="choose another --output")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder_name:
            LAYOUTS[layout](checkpoint, opened, Path(folder_name))
            (written,) = Path(folder_name).iterdir()
            count = _compared(checkpoint, open_drafter(written, opened.spec), step)
            os.replace(written, output)
    except OSError as error:
        raise output_error(error, output) from error
    return count


def _check_kind(checkpoint: DrafterCheckpoint) -> None:
    """Raises `CheckpointError` for a drafter that no layout which is written can say."""
    spec = checkpoint.spec
    if spec.chain is not None:
        raise CheckpointError(
            f"{checkpoint.path}: drafts one token after the other, which no layout that is written says",
            hint="pass it to build as it is",
        )
    if spec.embedding_scale != 1 or spec.logit_softcap or any(layer.value_norm for layer in spec.shape.layers):
        raise CheckpointError(
            f"{checkpoint.path}: a drafter with Gemma 4's layers, which is written in no layout",
            hint="pass it to build as it is",
        )


def _single(spec: DrafterSpec) -> DrafterSpec:
    """`spec` with its numbers in single precision, which is what GGUF keeps and what is computed with."""
    layers = tuple(
        replace(layer, rope=replace(layer.rope, theta=float(np.float32(layer.rope.theta))))
        for layer in spec.shape.layers
    )
    epsilon = float(np.float32(spec.shape.rms_norm_eps))
    return replace(spec, shape=replace(spec.shape, rms_norm_eps=epsilon, layers=layers))


def _compared(before: DrafterCheckpoint, after: DrafterCheckpoint, step: Step) -> int:
    """Raises `CheckpointError` where not everything came through; a head may have been added."""
    spec = replace(after.spec, own_head=before.spec.own_head)
    if _single(spec) != _single(before.spec):
        raise CheckpointError(
            f"{before.path}: reads back as another drafter than it was", hint="please report this: it is a bug"
        )
    for number, name in enumerate(before.weights):
        if not np.array_equal(before.weights[name], after.weights[name]):
            raise CheckpointError(
                f"{before.path}: tensor {name} reads back as other numbers", hint="please report this: it is a bug"
            )
        step(number + 1, len(before.weights))
    return len(after.weights)
