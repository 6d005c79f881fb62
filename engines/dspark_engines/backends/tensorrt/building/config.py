"""Builder settings, from what both flavours have and what only one has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspark_engines.backends.options import CompileOptions
from dspark_engines.backends.tensorrt.flavours import RTX, Flavour, capabilities
from dspark_engines.errors import BackendError


def make_config(flavour: Flavour, trt: Any, builder: Any, capability: str, options: CompileOptions) -> Any:
    """A configuration that builds for `capability`; float32 stays float32 (no TF32)."""
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the layer report names everything
    config.clear_flag(trt.BuilderFlag.TF32)
    supported = capabilities(flavour, trt)
    if supported:
        config.num_compute_capabilities = 1
        config.set_compute_capability(supported[capability], 0)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # refuses what a CUDA graph could not hold
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    _use_timing_cache(config, options.timing_cache)
    return config


def save_timing_cache(config: Any, path: Path | None) -> None:
    """Write what the build measured to `path`, in one rename."""
    if path is None:
        return
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(memoryview(config.get_timing_cache().serialize()))
    partial.replace(path)


def check_timing_cache(flavour: Flavour, path: Path | None) -> None:
    """Raises `BackendError` when the flavour keeps none."""
    if path is not None and flavour is RTX:
        raise BackendError(
            "TensorRT-RTX keeps no timing cache: it measures nothing when it builds", hint="leave --timing-cache out"
        )


def _use_timing_cache(config: Any, path: Path | None) -> None:
    if path is None:
        return
    known = path.read_bytes() if path.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False):
        raise BackendError(
            f"{path}: a timing cache of another GPU or version", hint="choose another --timing-cache, or remove it"
        )
