"""Shards of one run, laid together."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from dspark_calibration.errors import CalibrationError
from dspark_calibration.traces.header import TraceHeader
from dspark_calibration.traces.store import FRESH, TraceStore, replacing


def merge_traces(folders: Sequence[Path], output: Path) -> TraceStore:
    """Copy the traces of all shards into `output`, which then is what one run would have written.

    Raises `CalibrationError`, before anything is written, when headers differ, a shard is missing, or two shards
    disagree about a prompt; `OSError` when `output` cannot be written.
    """
    shards = [TraceStore.open(folder) for folder in folders]
    if not shards:
        raise CalibrationError("no folder to merge", hint="name the --traces folders of all shards")
    header = shards[0].header
    for shard in shards[1:]:
        if different := header.differences(shard.header):
            raise CalibrationError(
                f"{shard.path}: not a shard of the run in {shards[0].path} ({', '.join(different)} differ)",
                hint="shards come from one bundle, one prompt set and the same options",
            )
    files = [_source(shards, index) for index in range(len(header.prompts))]
    _check_complete(header, files)
    if (output / "header.json").is_file() and TraceStore.open(output).header != header:
        raise CalibrationError(f"{output}: holds traces of another run", hint=FRESH)
    store = TraceStore.create(output, header)
    for index, file in enumerate(files):
        if file is not None and file != store.file(index):
            with replacing(store.file(index)) as partial:
                shutil.copyfile(file, partial)
    return store


def _source(shards: Sequence[TraceStore], index: int) -> Path | None:
    found = [shard.file(index) for shard in shards if shard.file(index).is_file()]
    for other in found[1:]:
        if other.read_bytes() != found[0].read_bytes():
            raise CalibrationError(
                f"{other}: differs from {found[0]}", hint="both trace the same prompt: merge only one of the two shards"
            )
    return found[0] if found else None


def _check_complete(header: TraceHeader, files: Sequence[Path | None]) -> None:
    missing = [ref.id for ref, file in zip(header.prompts, files, strict=True) if file is None]
    if missing:
        raise CalibrationError(
            f"{len(missing)} of {len(files)} prompts are in no shard, the first is {missing[0]}: a shard is missing",
            hint="name the folders of all shards i/n, and let each finish first",
        )
