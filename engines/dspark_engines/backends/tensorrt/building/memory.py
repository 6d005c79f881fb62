"""Whether the builder will find room."""

from __future__ import annotations

from pathlib import Path

from dspark_engines.errors import BackendError

FIXED_BYTES = 1_300_000_000
"""What the library itself and its compiled kernels took with 5 profiles (TensorRT-RTX 1.7, 30 layers)."""
WEIGHT_COPIES = 2.5
"""Copies of the weights that a build holds at its peak."""


def check_memory(weight_bytes: int) -> None:
    """Raises `BackendError` when the machine has less memory free than a build of so many weights takes."""
    needed, free = int(FIXED_BYTES + WEIGHT_COPIES * weight_bytes), available_bytes()
    if free is not None and free < needed:
        raise BackendError(
            f"too little memory to build the engine: about {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB available",
            hint="build on a machine with more memory; engines built ahead of time can be copied",
        )


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that a process may still take, the control group's limit included; None where nobody says."""
    known = [value for value in (_system(root), _group(root)) if value is not None]
    return min(known) if known else None


def _system(root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _group(root: Path) -> int | None:
    try:
        limit = (root / "sys/fs/cgroup/memory.max").read_text("ascii").strip()
        used = int((root / "sys/fs/cgroup/memory.current").read_text("ascii"))
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - used)
