"""The GPU of this machine, asked of its driver: the CUDA provider brings no package that could tell."""

from __future__ import annotations

import ctypes

DRIVER = "libcuda.so.1"
MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of the driver's interface."""
SUCCESS = 0


def local_capability() -> str | None:
    """Compute capability of the first GPU that CUDA_VISIBLE_DEVICES leaves, "8.9"; None without a usable one."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return None
    count, device = ctypes.c_int(0), ctypes.c_int(0)
    if driver.cuInit(0) != SUCCESS or driver.cuDeviceGetCount(ctypes.byref(count)) != SUCCESS or not count.value:
        return None
    if driver.cuDeviceGet(ctypes.byref(device), 0) != SUCCESS:
        return None
    numbers = []
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int(0)
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) != SUCCESS:
            return None
        numbers.append(str(value.value))
    return ".".join(numbers)
