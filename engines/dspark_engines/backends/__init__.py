"""Backends: one seam, an implementation a folder."""

from dspark_engines.backends.base import (
    Backend,
    CompiledEngine,
    CompileOptions,
    DraftEngine,
    DraftOutput,
    Engine,
    EngineOptions,
    EnginePrecision,
    Engines,
    Floats,
    Ints,
    Slot,
    Trial,
    Verified,
    VerifyEngine,
    VerifyOutput,
)
from dspark_engines.backends.registry import backend_names, get_backend

__all__ = [
    "Backend",
    "CompileOptions",
    "CompiledEngine",
    "DraftEngine",
    "DraftOutput",
    "Engine",
    "EngineOptions",
    "EnginePrecision",
    "Engines",
    "Floats",
    "Ints",
    "Slot",
    "Trial",
    "Verified",
    "VerifyEngine",
    "VerifyOutput",
    "backend_names",
    "get_backend",
]
