"""How engines are compiled and opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

EnginePrecision = Literal["fp32", "fp16", "bf16"]
"""What linear layers, attention and caches of an engine compute in."""


def _silent(done: int, total: int) -> None:
    del done, total


def knob(default: Any, flag: str, help: str, **more: Any) -> Any:
    """A field that is an option of the command line and a key of recipes; `choices` is the Literal of its values."""
    return field(default=default, metadata={"flag": flag, "help": help, **more})


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """How engines are compiled; None, 0 and () leave it to the backend. `progress(done, total)` counts its steps.

    The one place that lists them: options of the command line and keys of recipes are made from these fields, and each
    backend names those that it follows (`Backend.supports`).
    """

    precision: EnginePrecision | None = knob(
        None,
        "--engine-precision",
        "What engines compute in. By default fp32 on the CPU, bf16 on GPUs, fp16 where TensorRT has no bf16.",
        choices=EnginePrecision,
    )
    compute_capability: str | None = knob(
        None, "--compute-capability", "The GPU that engines are for, such as 8.9 (default: this machine's)."
    )
    workspace_mib: int = knob(0, "--workspace", "Scratch memory that a GPU build may take, in MiB.")
    timing_cache: Path | None = knob(
        None, "--timing-cache", "A file of TensorRT's timings: read if it is there, and written."
    )
    token_buckets: tuple[int, ...] = knob(
        (),
        "--token-buckets",
        "Sizes of GPU steps, in tokens of all rows together, such as 1,2,4,8,64 (default: powers of two).",
    )
    plugins: bool | None = knob(
        None,
        "--plugins/--no-plugins",
        "Run custom ops as plugins with their own kernels, or in standard operators (default: plugins where the "
        "backend takes them).",
    )
    greedy_drafts: bool = knob(
        False,
        "--greedy-drafts/--sampled-drafts",
        "Compile a GPU drafter for temperature 0 only, whose logits stay on the GPU (default: for any temperature).",
    )
    progress: Callable[[int, int], None] = _silent


@dataclass(frozen=True)
class EngineOptions:
    """How engines use the machine; `threads` 0 means all cores, `spinning` that idle ones wait actively."""

    threads: int = 0
    spinning: bool = False
