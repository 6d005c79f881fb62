"""ONNX Runtime with a CUDA provider, played by its CPU provider: device memory is host memory, at its own addresses."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime_cuda import checking, memory, program, session

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
DTYPES = {1: np.float32, 10: np.float16}


class SimulatedOrt:
    """Stands in for the module `onnxruntime`. `missing` are ops that its CUDA provider has no kernel for."""

    SessionOptions = onnxruntime.SessionOptions
    __version__ = onnxruntime.__version__

    def __init__(self, missing: Sequence[str] = (), starts: bool = True) -> None:
        self.missing, self.starts = set(missing), starts
        self.allocated: dict[int, Any] = {}
        self.sessions: list[SimulatedSession] = []
        self.OrtValue = SimpleNamespace(ortvalue_from_numpy=self._allocate)

    def get_available_providers(self) -> list[str]:
        return [CUDA, CPU]

    def preload_dlls(self) -> None:
        print("Failed to load libcublas.so.13: cannot open shared object file")

    def set_default_logger_severity(self, level: int) -> None:
        onnxruntime.set_default_logger_severity(level)

    def InferenceSession(self, model: bytes, settings: Any, **options: Any) -> SimulatedSession:
        self.sessions.append(SimulatedSession(self, model, settings, **options))
        return self.sessions[-1]

    def holds(self, address: int, size: int) -> bool:
        """Whether that range lies in one allocation."""
        return any(at <= address and address + size <= at + array.nbytes for at, array in self.allocated.items())

    def _allocate(self, array: Any, kind: str, number: int) -> Any:
        assert (kind, number) == ("cuda", 0)
        if not self.starts:
            raise RuntimeError("CUDA Provider not available, can't get interface for it")
        value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
        self.allocated[value.data_ptr()] = array
        return value


class SimulatedSession:
    """A session that says of itself where its nodes are, and binds what is on the device only."""

    def __init__(self, ort: SimulatedOrt, model: bytes, settings: Any, *, providers: Any, enable_fallback: int) -> None:
        (name, options), self.ort, self.runs = providers[0], ort, 0
        assert (len(providers), name, enable_fallback) == (1, CUDA, 0)
        assert options["use_tf32"] == "0"
        self.bindings: list[SimulatedBinding] = []
        settings.intra_op_num_threads = 1
        self.real = onnxruntime.InferenceSession(model, settings, providers=[CPU])
        self.get_inputs, self.get_outputs = self.real.get_inputs, self.real.get_outputs

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        nodes = [node for part in self.real.get_provider_graph_assignment_info() for node in part.get_nodes()]
        here = {True: CPU, False: CUDA}
        return [
            SimpleNamespace(ep_name=here[node.op_type in self.ort.missing], get_nodes=lambda node=node: [node])
            for node in nodes
        ]

    def io_binding(self) -> SimulatedBinding:
        self.bindings.append(SimulatedBinding(self))
        return self.bindings[-1]

    def run_with_iobinding(self, binding: SimulatedBinding) -> None:
        assert binding.synchronized, "inputs may still be on their way"
        binding.synchronized = False
        self.runs += 1
        self.real.run_with_iobinding(binding.real)


class SimulatedBinding:
    """Takes caches on the device, other inputs from the host, other outputs to the host."""

    def __init__(self, session: SimulatedSession) -> None:
        self.session, self.real, self.synchronized = session, session.real.io_binding(), False
        self.stays: dict[str, bool] = {}
        self.get_outputs_as_ortvaluevector = self.real.get_outputs_as_ortvaluevector

    def bind_cpu_input(self, name: str, array: Any) -> None:
        assert "_cache" not in name
        assert array.flags.c_contiguous
        self.real.bind_cpu_input(name, array)

    def bind_input(self, name: str, *where: Any) -> None:
        self.real.bind_input(name, "cpu", 0, *self._checked(name, *where))

    def bind_output(self, name: str, *where: Any) -> None:
        if "_cache" in name:
            self.real.bind_output(name, "cpu", 0, *self._checked(name, *where))
        else:
            assert where in ((), ("cuda", 0))
            self.stays[name] = bool(where)
            self.real.bind_output(name)

    def synchronize_inputs(self) -> None:
        self.synchronized = True

    def _checked(self, name: str, kind: str, number: int, element: int, shape: tuple[int, ...], address: int) -> Any:
        assert (kind, number) == ("cuda", 0)
        assert "_cache" in name
        dtype = DTYPES[element]
        assert self.session.ort.holds(address, int(np.prod(shape)) * np.dtype(dtype).itemsize), f"{name}: out of bounds"
        return dtype, shape, address


def install(patch: pytest.MonkeyPatch, capability: str | None = "8.9", **options: Any) -> SimulatedOrt:
    """This machine has a GPU of that compute capability, and the package that goes with it."""
    ort = SimulatedOrt(**options)
    for user in (checking, memory, program, session):
        patch.setattr(user, "onnxruntime", ort)
    patch.setattr(checking, "local_capability", lambda: capability)
    session._start_provider.cache_clear()
    return ort
