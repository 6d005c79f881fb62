"""Are files what the manifest says: the bundle's own, and the checkpoints that it was built from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dspark_engines import Bundle
from dspark_engines.bundle import FileRecord, check_hash, record_file
from dspark_engines.errors import CheckpointError
from dspark_engines.progress import Step


def check_hashes(bundle: Bundle, step: Step) -> None:
    """Hash every file of the bundle. Raises `BundleError` naming one that was changed."""
    done, total = 0, sum(record.bytes for record in bundle.manifest.files)
    for record in bundle.manifest.files:
        check_hash(bundle, record)
        done += record.bytes
        step(done, total)


def check_origin(path: Path, files: Sequence[Path], recorded: Sequence[FileRecord]) -> None:
    """Raises `CheckpointError` unless `files` of the checkpoint at `path` are, to the hash, those in the manifest."""
    if [record_file(file, file.parent) for file in files] != list(recorded):
        raise CheckpointError(
            f"{path}: not the checkpoint that this bundle was built from",
            hint="the manifest names each file with its sha256: dspark-export inspect --json",
        )


def find_origin(bundle: Bundle, target: Path | None, drafter: Path | None) -> tuple[Path, Path]:
    """Paths of both checkpoints: those given, else those that the manifest recorded, which must still be there.

    Raises `CheckpointError` when there is none, or when one is not what the bundle was built from.
    """
    from dspark_export.checkpoints import open_drafter, open_target  # needs the extra [export]

    manifest = bundle.manifest
    if not manifest.drafter.drafts:
        raise CheckpointError(
            f"{bundle.path}: has no drafter, and what is compared are pairs", hint="build it with --drafter"
        )
    target = _path(bundle, target, manifest.target.source, "target")
    drafter = _path(bundle, drafter, manifest.drafter.source, "drafter")
    opened = open_target(target)
    check_origin(target, opened.files, manifest.target.files)
    check_origin(drafter, open_drafter(drafter, opened.spec).files, manifest.drafter.files)
    return target, drafter


def _path(bundle: Bundle, given: Path | None, recorded: str | None, role: str) -> Path:
    if given is not None:
        return given
    hint = "pass the checkpoints that it was built from: --target and --drafter"
    if recorded is None:
        raise CheckpointError(f"{bundle.path}: its manifest does not say where the {role} is", hint=hint)
    if not Path(recorded).exists():
        raise CheckpointError(f"{bundle.path}: its {role} was read from {recorded}, which is not there", hint=hint)
    return Path(recorded)
