"""From an engine file to an engine on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dspark_engines.backends.engine import DraftEngine, VerifyEngine
from dspark_engines.backends.exported import role_caches
from dspark_engines.backends.onnxruntime_cuda.program import CudaProgram
from dspark_engines.backends.onnxruntime_cuda.session import open_session
from dspark_engines.backends.padded.engines import PaddedDraftEngine, PaddedVerifyEngine
from dspark_engines.backends.padded.shapes import role_shapes
from dspark_engines.bundle import Bundle, EngineInfo


@contextmanager
def open_engine(bundle: Bundle, info: EngineInfo) -> Iterator[VerifyEngine | DraftEngine]:
    """One engine of a bundle, for the duration of a `with` block."""
    drafter, limits = bundle.manifest.drafter, bundle.manifest.limits
    width = drafter.block_width
    shapes = role_shapes(info.role, limits, drafter.block_size, info.token_buckets, block_width=width)
    program = CudaProgram(open_session(bundle, info), shapes, info.role, role_caches(bundle, info.role))
    try:
        if info.role == "verify":
            yield PaddedVerifyEngine(program, shapes)
        else:
            yield PaddedDraftEngine(program, shapes, info.greedy_drafts)
    finally:
        program.close()
