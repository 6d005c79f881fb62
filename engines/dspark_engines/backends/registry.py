"""Backends by name, imported only when asked for."""

from __future__ import annotations

from importlib import import_module

from dspark_engines.backends.base import Backend
from dspark_engines.errors import BackendError

BACKENDS = {
    "onnxruntime": "dspark_engines.backends.onnxruntime.backend:OnnxRuntimeBackend",
    "onnxruntime-cuda": "dspark_engines.backends.onnxruntime_cuda.backend:OnnxRuntimeCudaBackend",
    "tensorrt-rtx": "dspark_engines.backends.tensorrt.backend:TensorRtRtxBackend",
    "tensorrt": "dspark_engines.backends.tensorrt.backend:TensorRtBackend",
}


def backend_names() -> tuple[str, ...]:
    """Names that `get_backend` knows, for help texts and choices."""
    return tuple(BACKENDS)


def get_backend(name: str) -> Backend:
    """The backend called `name`. Raises `BackendError` when it is unknown."""
    if name not in BACKENDS:
        raise BackendError(f"no backend called '{name}'", hint=f"available: {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[name].partition(":")
    backend: Backend = getattr(import_module(module), attribute)()
    return backend
