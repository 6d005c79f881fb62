"""Which GPU an engine is built for."""

from __future__ import annotations

from typing import Any

from dspark_engines.backends.tensorrt.device import local_capability
from dspark_engines.backends.tensorrt.flavours import Flavour, capabilities
from dspark_engines.errors import BackendError

HALF_SINCE = {"bf16": (8, 0), "fp16": (7, 0)}


def choose_capability(flavour: Flavour, trt: Any, wanted: str | None) -> str:
    """The compute capability to build for, "8.9". Raises `BackendError` when the flavour cannot."""
    supported = capabilities(flavour, trt)
    if not supported:  # it builds for the GPU it runs on
        return _local_only(flavour, wanted)
    capability = wanted or local_capability(flavour)
    if capability is None:
        raise BackendError(
            "no GPU here whose compute capability could be taken",
            hint=f"pass --compute-capability, one of {', '.join(supported)}",
        )
    if capability not in supported:
        raise BackendError(
            f"{flavour.title} {trt.__version__} does not support compute capability {capability}",
            hint=f"it supports {', '.join(supported)}",
        )
    return capability


def check_precision(capability: str, precision: str) -> None:
    """Raises `BackendError` when a GPU of this compute capability has no arithmetic in `precision`."""
    oldest = HALF_SINCE.get(precision, (0, 0))
    if tuple(int(part) for part in capability.split(".")) < oldest:
        raise BackendError(
            f"compute capability {capability} has no {precision} arithmetic",
            hint="pass --engine-precision fp16, or fp32",
        )


def _local_only(flavour: Flavour, wanted: str | None) -> str:
    local = local_capability(flavour)
    if local is None:
        raise BackendError(
            f"{flavour.title} builds engines on the GPU that they are for, and there is none here",
            hint="compile on such a machine, or use --backend tensorrt-rtx, which builds without one",
        )
    if wanted not in (None, local):
        raise BackendError(
            f"{flavour.title} builds for this machine's GPU, of compute capability {local}, not for {wanted}",
            hint="leave --compute-capability out, or compile on the machine that will run the engines",
        )
    return local
