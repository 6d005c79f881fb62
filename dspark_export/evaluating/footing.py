"""May bundles be compared? Only the drafters may differ: same target, same numbers, same limits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from dspark_engines.backends import get_backend
from dspark_engines.bundle import Bundle, TargetInfo
from dspark_engines.errors import BundleError


def check_footing(bundles: Sequence[Bundle], backend: str) -> None:
    """Raises `BundleError` naming two bundles that stand on different footings, and in what."""
    first = bundles[0]
    expected = dict(_footing(first, backend))
    for number, other in enumerate(bundles):
        if any(other.path.resolve() == earlier.path.resolve() for earlier in bundles[:number]):
            raise BundleError(f"{other.path}: given twice", hint="name each bundle once")
        for name, value in _footing(other, backend):
            if value != expected[name]:
                raise _unequal(first, other, name, expected[name], value)


def target_hash(target: TargetInfo) -> str:
    """One sha256 over those of the target's files, whatever these are called."""
    return hashlib.sha256("\n".join(sorted(record.sha256 for record in target.files)).encode()).hexdigest()


def _footing(bundle: Bundle, backend: str) -> Iterator[tuple[str, Any]]:
    """What has to be equal, by name; the target first."""
    manifest, info = bundle.manifest, get_backend(backend).find_engines(bundle)
    engine = next(engine for engine in info.engines if engine.role == "verify")
    yield "target", target_hash(manifest.target)
    yield "precision", manifest.precision
    yield "engines' precision", engine.precision or manifest.precision
    yield "GPU", engine.compute_capability or "none"
    yield f"version of {backend}", info.version
    yield "context length", manifest.limits.context_length
    yield "prefill chunk", manifest.limits.prefill_chunk
    yield "slots", manifest.limits.slots


def _unequal(first: Bundle, other: Bundle, name: str, expected: Any, found: Any) -> BundleError:
    if name != "target":
        return BundleError(
            f"{other.path}: {name} is {found}, that of {first.path} is {expected}: not the same footing",
            hint="build both in the same way, so that only the drafters differ",
        )
    targets = f"{other.manifest.target.name}, that of {first.path} {first.manifest.target.name}"
    return BundleError(
        f"{other.path}: its target is {targets}, with other content: not the same footing",
        hint="compare drafters of one target: their output has to be the same",
    )
