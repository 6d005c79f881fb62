"""The GPU of this machine, if there is one."""

from __future__ import annotations

from dspark_engines.backends.tensorrt.flavours import Flavour
from dspark_engines.errors import BackendError


def local_capability(flavour: Flavour) -> str | None:
    """Compute capability of the first GPU, "8.9"; None without a usable one."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise BackendError(
            f"backend '{flavour.name}' needs the package 'cuda-bindings', which is not installed",
            hint=f"pip install 'dspark-export[{flavour.extra}]'",
        ) from None
    try:
        error, count = runtime.cudaGetDeviceCount()
    except RuntimeError:  # no CUDA library on this machine
        return None
    if error != runtime.cudaError_t.cudaSuccess or not count:
        return None
    attributes = runtime.cudaDeviceAttr
    numbers = []
    for attribute in (attributes.cudaDevAttrComputeCapabilityMajor, attributes.cudaDevAttrComputeCapabilityMinor):
        error, value = runtime.cudaDeviceGetAttribute(attribute, 0)
        if error != runtime.cudaError_t.cudaSuccess:
            return None
        numbers.append(str(value))
    return ".".join(numbers)
