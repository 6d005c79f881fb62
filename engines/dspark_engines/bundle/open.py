"""Open a bundle: schema first, then every file's presence and size, then the hashes that are cheap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dspark_calibration import first_problem
from dspark_engines.bundle.drafters import ENGINELESS, NONE, drafter_names, seen_through
from dspark_engines.bundle.hashing import sha256_file
from dspark_engines.bundle.manifest import SCHEMA_VERSION, FileRecord, Manifest
from dspark_engines.errors import BundleError, TextError
from dspark_engines.text_file import read_json

MANIFEST = "manifest.json"
CALIBRATION = "calibration/"
CHEAP_BYTES = 64 << 20
"""Files up to this size are hashed whenever a bundle is opened; larger ones only by `check`."""

REBUILD = "restore the bundle from where it was built, or build it again"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest was read and whose files are there, with the right sizes."""

    path: Path
    manifest: Manifest
    """As if the drafter that it is seen through were the only one."""
    whole: Manifest | None = None
    """What manifest.json says, where that is more."""

    @property
    def stored(self) -> Manifest:
        """What manifest.json says."""
        return self.whole or self.manifest

    @property
    def drafters(self) -> tuple[str, ...]:
        """Names of the drafters in it, the one that it is known by first."""
        return drafter_names(self.stored)

    def with_drafter(self, name: str) -> Bundle:
        """The same bundle seen through the drafter called `name`: one of `drafters`, "ngram" (prompt lookup) or "none".

        What is measured through it has a folder of its own, but for the drafter that the bundle is known by.
        Raises `BundleError` naming those there are.
        """
        try:
            return Bundle(self.path, seen_through(self.stored, name), self.stored)
        except KeyError:
            raise BundleError(
                f"{self.path}: has no drafter called '{name}'",
                hint=f"it has {', '.join([*self.drafters, *ENGINELESS])}",
            ) from None

    def file(self, relative: str) -> Path:
        """Absolute path of a file of the bundle; of calibration/ that of the drafter that it is seen through."""
        known, seen = self.stored.drafter.called, self.manifest.drafter.called
        if seen not in (known, NONE) and relative.startswith(CALIBRATION):
            relative = f"{CALIBRATION}{seen}/{relative.removeprefix(CALIBRATION)}"
        return self.path / relative


def open_bundle(path: Path) -> Bundle:
    """Read and check the bundle at `path`. Raises `BundleError` saying which file is wrong and how."""
    bundle = Bundle(path, _read_manifest(path))
    for record in bundle.manifest.files:
        _check_size(bundle, record)
    for record in bundle.manifest.files:
        if record.bytes <= CHEAP_BYTES:
            check_hash(bundle, record)
    return bundle


def check_hash(bundle: Bundle, record: FileRecord, advance: Callable[[int], None] | None = None) -> None:
    """Compare one file with its record. Raises `BundleError` when it was changed."""
    if sha256_file(bundle.file(record.path), advance) != record.sha256:
        raise BundleError(f"{bundle.file(record.path)}: content differs from the manifest's sha256", hint=REBUILD)


def _check_size(bundle: Bundle, record: FileRecord) -> None:
    file = bundle.file(record.path)
    if not file.is_file():
        raise BundleError(f"{file}: missing from the bundle", hint=REBUILD)
    if not file.resolve().is_relative_to(bundle.path.resolve()):
        raise BundleError(
            f"{file}: a link that leads out of the bundle", hint="copy the bundle with what it links to: cp -rL"
        )
    if file.stat().st_size != record.bytes:
        raise BundleError(f"{file}: has {file.stat().st_size} bytes, the manifest says {record.bytes}", hint=REBUILD)


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if not file.is_file():
        raise BundleError(f"{path}: not a bundle (no {MANIFEST})", hint="make one with: dspark-export build")
    data = _parse(file)
    version = data.get("schema_version")
    if not isinstance(version, int):
        raise BundleError(f"{file}: no schema_version", hint=REBUILD)
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{file}: schema version {version} is newer than {SCHEMA_VERSION}, the newest this version reads",
            hint="upgrade dspark-export on this machine",
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        raise BundleError(f"{file}: {first_problem(error)}", hint=REBUILD) from None


def _parse(file: Path) -> dict[str, Any]:
    try:
        data = read_json(file)
    except OSError as error:
        raise BundleError(f"{file}: not readable: {error.strerror}", hint=REBUILD) from None
    except TextError as error:
        raise BundleError(str(error), hint=REBUILD) from None
    if not isinstance(data, dict):
        raise BundleError(f"{file}: holds no JSON object", hint=REBUILD)
    return data
