"""Sessions on the CUDA provider, and on no other: what it cannot run is an error, not a slow step."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache

import numpy as np

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.session import WEIGHTS_FOLDER
from dspark_engines.backends.onnxruntime_cuda.checking import CUDA, INSTALL
from dspark_engines.backends.onnxruntime_cuda.memory import DEVICE
from dspark_engines.bundle import Bundle, EngineInfo
from dspark_engines.errors import BackendError

RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"
WARNINGS, NOTHING = 2, 4
OPTIONS = {
    "device_id": "0",  # of those that CUDA_VISIBLE_DEVICES leaves
    "use_tf32": "0",  # float32 is what the graph says
    "arena_extend_strategy": "kSameAsRequested",  # by default it takes the next power of two
}
SHAPE_OPS = {"Concat", "Shape", "Size"}
"""Ops that the provider leaves to the host: they compute a few sizes, from sizes that are known there."""


def open_session(bundle: Bundle, engine: EngineInfo) -> onnxruntime.InferenceSession:
    """Load one engine. Raises `BackendError` where any of it would run on the CPU."""
    path, settings = bundle.file(engine.path), onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1  # the host only launches
    settings.log_severity_level = NOTHING  # what goes wrong is raised
    settings.add_session_config_entry(RECORD_ASSIGNMENT, "1")
    settings.add_session_config_entry(WEIGHTS_FOLDER, str(bundle.file(engine.weights).absolute()))
    try:
        with _quiet():
            _start_provider()
            session = onnxruntime.InferenceSession(
                path.read_bytes(), settings, providers=[(CUDA, OPTIONS)], enable_fallback=0
            )
    except BackendError:
        raise
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes, RuntimeError among them
        raise BackendError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it on the GPU: "
            f"{str(error).splitlines()[0]:.200}",
            hint=f"check that CUDA's libraries are there ({INSTALL}) and that the GPU has memory left (nvidia-smi)",
        ) from error
    check_placement(session, str(path))
    return session


def check_placement(session: onnxruntime.InferenceSession, path: str) -> None:
    """Raises `BackendError` when ONNX Runtime has put work on the CPU, as it does in silence without a kernel."""
    parts = session.get_provider_graph_assignment_info()
    elsewhere = {node.op_type for part in parts if part.ep_name != CUDA for node in part.get_nodes()} - SHAPE_OPS
    if elsewhere:
        raise BackendError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} has no CUDA kernel for {', '.join(sorted(elsewhere))}",
            hint="use the version of onnxruntime-gpu that docs/cuda.md names",
        )


@cache
def _start_provider() -> None:
    """Let the dynamic linker find CUDA's libraries in NVIDIA's packages, and the provider take memory.

    A session would be opened without the provider, in silence, when it does not start.
    """
    with redirect_stdout(io.StringIO()) as said:
        onnxruntime.preload_dlls()
    try:
        onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(1, np.float32), *DEVICE)
    except Exception as error:
        reason = (said.getvalue().strip() or str(error)).splitlines()[0]
        raise BackendError(
            f"ONNX Runtime {onnxruntime.__version__} could not start its CUDA provider: {reason:.200}",
            hint=f"install the libraries that it was built for ({INSTALL}), and a driver that is new enough for them",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's process-wide logger says on standard error what is raised as well."""
    onnxruntime.set_default_logger_severity(NOTHING)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(WARNINGS)
