"""Whether this machine can run engines of the CUDA provider, found out before any is loaded."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime_cuda.device import local_capability
from dspark_engines.bundle import BackendInfo, Bundle
from dspark_engines.errors import BackendError

CUDA = "CUDAExecutionProvider"
BF16_SINCE = 8
ELSEWHERE = "--backend onnxruntime runs on the CPU"
INSTALL = "pip install 'onnxruntime-gpu[cuda,cudnn]>=1.31,<2'"
"""With the libraries that its CUDA provider loads: among others cuBLAS, and cuDNN, which it takes maxima with."""
REPLACE = f"pip uninstall --yes onnxruntime onnxruntime-gpu && {INSTALL}"
"""Both packages are the module `onnxruntime`; of two installed ones the last wins, and removing one breaks it."""


def check_machine(name: str, bundle: Bundle, info: BackendInfo) -> None:
    """Raises `BackendError` without the provider, without a GPU, and on one that cannot compute as `info` says."""
    if CUDA not in onnxruntime.get_available_providers():
        raise BackendError(
            f"backend '{name}' needs ONNX Runtime's CUDA provider, and {_installed()}",
            hint=f"{REPLACE}; {ELSEWHERE}",
        )
    capability = local_capability()
    if capability is None:
        raise BackendError(
            f"backend '{name}' needs an NVIDIA GPU with its driver, and there is none here",
            hint=f"run it on a machine with one; {ELSEWHERE}",
        )
    if info.engines[0].precision == "bf16" and int(capability.split(".")[0]) < BF16_SINCE:
        raise BackendError(
            f"{bundle.path}: compiled for bf16, which this machine's GPU does not have (compute capability "
            f"{capability})",
            hint=f"compile it again: dspark-export compile {bundle.path} --backend {name} --overwrite "
            "--engine-precision fp16",
        )


def _installed() -> str:
    """What is there instead."""
    try:
        distribution("onnxruntime-gpu")
    except PackageNotFoundError:
        return f"the package 'onnxruntime' {onnxruntime.__version__} has none"
    return "'onnxruntime' was installed over 'onnxruntime-gpu', which has one"
