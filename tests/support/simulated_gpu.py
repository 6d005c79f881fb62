"""A CUDA runtime and a TensorRT of plain memory: what `execution` asks of them, checked, and run by ONNX Runtime.

Device memory is host memory at its own addresses. While a stream is captured nothing runs; a launched graph runs what
was captured, on what lies at the captured addresses now.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.self_check import cpu_settings

POISON = 0xFF  # fresh memory holds NaNs

Call = Callable[[], None]


class Code(Enum):
    """CUDA's error codes, as far as they come up."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1


class SimulatedCuda:
    """Stands in for `cuda.bindings.runtime`."""

    cudaError_t = Code
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaStreamNonBlocking = 1
    cudaHostAllocDefault = 0

    def __init__(self) -> None:
        self.memory: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.streams: set[int] = set()
        self.capturing: dict[int, list[Call]] = {}
        self.graphs: dict[int, list[Call]] = {}
        self.launches = 0

    def put(self, stream: int, work: Call) -> None:
        """Run, or record."""
        assert stream in self.streams
        if stream in self.capturing:
            self.capturing[stream].append(work)
        else:
            work()

    def holds(self, address: int, size: int) -> bool:
        """Whether that range lies in one allocation."""
        return any(start <= address and address + size <= start + len(block) for start, block in self.memory.items())

    def cudaGetErrorString(self, error: Code) -> tuple[Code, bytes]:
        return Code.cudaSuccess, error.name.encode()

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Code, int]:
        self.streams.add(len(self.streams) + 1)
        return Code.cudaSuccess, len(self.streams)

    def cudaStreamDestroy(self, stream: int) -> tuple[Code]:
        self.streams.remove(stream)
        return (Code.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Code]:
        assert stream not in self.capturing, "a captured stream cannot be waited for"
        return (Code.cudaSuccess,)

    def cudaMalloc(self, size: int) -> tuple[Code, int]:
        block = ctypes.create_string_buffer(bytes([POISON]) * size, size)
        self.memory[ctypes.addressof(block)] = block
        return Code.cudaSuccess, ctypes.addressof(block)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Code, int]:
        return self.cudaMalloc(size)

    def cudaFree(self, address: int) -> tuple[Code]:
        del self.memory[address]
        return (Code.cudaSuccess,)

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[Code]:
        if not (self.holds(target, size) and self.holds(source, size)):
            return (Code.cudaErrorInvalidValue,)
        self.put(stream, lambda: ctypes.memmove(target, source, size) and None)
        return (Code.cudaSuccess,)

    def cudaMemsetAsync(self, target: int, value: int, size: int, stream: int) -> tuple[Code]:
        assert self.holds(target, size)
        self.put(stream, lambda: ctypes.memset(target, value, size) and None)
        return (Code.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Code]:
        self.capturing[stream] = []
        return (Code.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Code, list[Call]]:
        return Code.cudaSuccess, self.capturing.pop(stream)

    def cudaGraphInstantiate(self, graph: list[Call], flags: int) -> tuple[Code, int]:
        number = len(self.graphs) + 1
        self.graphs[number] = graph
        return Code.cudaSuccess, number

    def cudaGraphDestroy(self, graph: list[Call]) -> tuple[Code]:
        return (Code.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Code]:
        self.graphs[graph] = []
        return (Code.cudaSuccess,)

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Code]:
        self.launches += 1
        for work in self.graphs[graph]:
            self.put(stream, work)
        return (Code.cudaSuccess,)


class DataType(Enum):
    """TensorRT's types."""

    FLOAT = np.dtype(np.float32)
    INT64 = np.dtype(np.int64)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return int(self.value.itemsize)


SIMULATED_TRT = SimpleNamespace(
    TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
    ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"),
    nptype=lambda dtype: dtype.value,
)
ONNX_TYPES = {"tensor(float)": DataType.FLOAT, "tensor(int64)": DataType.INT64}


class SimulatedEngine:
    """An engine over a lowered graph, whose dynamic axes are -1."""

    num_optimization_profiles = 1

    def __init__(self, cuda: SimulatedCuda, path: Path) -> None:
        self.cuda = cuda
        self.session = onnxruntime.InferenceSession(path, cpu_settings(), providers=["CPUExecutionProvider"])
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.values = {value.name: value for value in [*inputs, *outputs]}
        self.inputs = [value.name for value in inputs]
        self.outputs = [value.name for value in outputs]
        self.num_io_tensors = len(self.values)

    def get_tensor_name(self, index: int) -> str:
        return list(self.values)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in self.inputs else "out"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self.values[name].shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        return ONNX_TYPES[self.values[name].type]

    def get_aliased_input_tensor(self, name: str) -> str | None:
        return name.replace("_cache_out.", "_cache.") if "_cache_out." in name else None

    def get_device_memory_size_for_profile_v2(self, index: int) -> int:
        return 256

    def create_execution_context(self, strategy: str) -> SimulatedContext:
        assert strategy == "user"
        return SimulatedContext(self)


class SimulatedContext:
    """Reads and writes the addresses it was given."""

    def __init__(self, engine: SimulatedEngine) -> None:
        self.engine, self.shapes, self.addresses = engine, dict[str, tuple[int, ...]](), dict[str, int]()
        self.profile: int | None = None
        self.scratch = False

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name in self.engine.inputs
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        assert self.engine.cuda.holds(memory, size)
        self.scratch = True

    def is_stream_capturable(self, stream: int) -> bool:
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Shape of an output, from the inputs' shapes."""
        rows = self.shapes["used" if "used" in self.shapes else "verify_lengths"][0]
        tokens = self.shapes.get("token_ids", (0,))[0]
        lines = {"logits": self.shapes.get("logit_rows", (0,))[0], "features": tokens}.get(name, rows)
        return (lines, *self.engine.get_tensor_shape(name)[1:])

    def execute_async_v3(self, stream: int) -> bool:
        assert self.scratch
        assert self.profile is not None
        for name in self.engine.inputs:  # in place: one address for what goes in and what comes out
            if "_cache." in name:
                assert self.addresses[name] == self.addresses[name.replace("_cache.", "_cache_out.")]
        bound = dict(self.addresses)
        self.engine.cuda.put(stream, lambda: self._run(bound))
        return True

    def _run(self, addresses: dict[str, int]) -> None:
        feeds = {name: self._at(name, addresses[name], self.shapes[name]).copy() for name in self.engine.inputs}
        results = self.engine.session.run(None, feeds)
        for name, value in zip(self.engine.outputs, results, strict=True):
            assert "_cache" in name or value.shape == self.get_tensor_shape(name)
            self._at(name, addresses[name], value.shape)[...] = value

    def _at(self, name: str, address: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        dtype = self.engine.get_tensor_dtype(name).value
        size = int(np.prod(shape)) * dtype.itemsize
        assert self.engine.cuda.holds(address, size), f"{name} reaches out of its buffer"
        return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)
