"""How much room engines take on the disk while they are built, before anything is."""

from __future__ import annotations

from collections.abc import Mapping

from dspark_engines.backends.options import EnginePrecision
from dspark_engines.bundle import Role

BYTES_OF_FOUR: dict[EnginePrecision | None, int] = {"fp32": 4, None: 2, "fp16": 2, "bf16": 2}
"""What is left of a float32 weight; without a precision the GPU's half precision is taken."""
KERNEL_BYTES = 100_000_000
"""Of an engine, on top of its weights: 84 MB with 30 layers and 5 profiles, 80 MB in one of 2.79 GB."""
PADDING = 1.05


def disk_bytes(weight_bytes: Mapping[Role, int], precision: EnginePrecision | None) -> int:
    """The most that lies on the disk at once: finished engines, and the lowered copy of the one that is being built.

    `weight_bytes` are those of the exported graphs in float32, tables that the drafter shares included: an engine
    holds all that it computes with.
    """
    largest = done = 0
    for exported in weight_bytes.values():
        lowered = exported * BYTES_OF_FOUR[precision] // 4
        done += int(lowered * PADDING) + KERNEL_BYTES
        largest = max(largest, done + lowered)
    return largest
