"""Backends: one seam, an implementation a folder."""

from dspark_engines.backends.base import Backend, CompiledEngine
from dspark_engines.backends.engine import (
    DraftEngine,
    DraftOutput,
    Engine,
    Engines,
    Slot,
    VerifyEngine,
    VerifyOutput,
)
from dspark_engines.backends.exported import ExportedGraphs
from dspark_engines.backends.options import CompileOptions, EngineOptions, EnginePrecision
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
    "ExportedGraphs",
    "Slot",
    "VerifyEngine",
    "VerifyOutput",
    "backend_names",
    "get_backend",
]
