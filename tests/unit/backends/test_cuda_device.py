"""What the CUDA provider's backend asks of the machine: its driver, and no package but ONNX Runtime's."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from dspark_engines.backends.onnxruntime_cuda import device

CAPABILITY = {75: 8, 76: 9}


def driver(failing: str = "", devices: int = 1) -> SimpleNamespace:
    """CUDA's driver with that many devices; the call named `failing` returns an error."""

    def code(name: str) -> int:
        return 100 if name == failing else 0

    def count(result: Any) -> int:
        result._obj.value = devices
        return code("cuDeviceGetCount")

    def attribute(result: Any, number: int, handle: ctypes.c_int) -> int:
        result._obj.value = CAPABILITY[number]
        return code("cuDeviceGetAttribute")

    return SimpleNamespace(
        cuInit=lambda flags: code("cuInit"),
        cuDeviceGetCount=count,
        cuDeviceGet=lambda result, number: code("cuDeviceGet"),
        cuDeviceGetAttribute=attribute,
    )


def test_the_first_device_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver())
    assert device.local_capability() == "8.9"


@pytest.mark.parametrize("failing", ["cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetAttribute"])
def test_a_driver_that_fails_is_none(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver(failing))
    assert device.local_capability() is None


def test_no_device_and_no_driver_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver(devices=0))
    assert device.local_capability() is None

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert device.local_capability() is None


def test_running_needs_none_of_the_packages_that_compiling_and_tensorrt_need() -> None:
    """A production host has the base distribution, with onnxruntime exchanged for onnxruntime-gpu."""
    others = ["cuda", "cuda.bindings", "onnx", "onnx_ir", "onnxscript", "ml_dtypes", "tensorrt", "tensorrt_rtx"]
    folder = "dspark_engines.backends.onnxruntime_cuda"
    script = f"import sys\nsys.modules.update(dict.fromkeys({others}))\nimport {folder}.backend, {folder}.opening"
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
