"""From an engine file to a program, with everything checked that can be known beforehand."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from dspark_engines.backends.engine import Engines
from dspark_engines.backends.tensorrt.device import local_capability
from dspark_engines.backends.tensorrt.flavours import Flavour
from dspark_engines.backends.tensorrt.logger import make_logger
from dspark_engines.backends.tensorrt.shapes import role_shapes
from dspark_engines.bundle import BackendInfo, Bundle, EngineInfo
from dspark_engines.errors import BackendError


def check_machine(flavour: Flavour, trt: Any, bundle: Bundle, info: BackendInfo) -> None:
    """Raises `BackendError` when these engines are of another library version, or of another GPU than is here."""
    again = f"dspark-export compile {bundle.path} --backend {flavour.name} --overwrite"
    if info.version != trt.__version__:
        raise BackendError(
            f"{bundle.path}: compiled with {flavour.title} {info.version}, this machine has {trt.__version__}",
            hint=f"compile it again: {again}",
        )
    local, built = local_capability(flavour), info.engines[0].compute_capability
    if local is None:
        raise BackendError(
            f"backend '{flavour.name}' needs an NVIDIA GPU with its driver, and there is none here",
            hint="run it on a machine with one; --backend onnxruntime runs on the CPU",
        )
    if local != built:
        raise BackendError(
            f"{bundle.path}: compiled for compute capability {built}, this machine's GPU has {local}",
            hint=f"compile it again: {again} --compute-capability {local}",
        )


def load_engine(flavour: Flavour, trt: Any, bundle: Bundle, info: EngineInfo) -> Any:
    """Deserialize one engine. Raises `BackendError` with the library's own words."""
    logger = make_logger(trt)
    engine = trt.Runtime(logger).deserialize_cuda_engine(bundle.file(info.path).read_bytes())
    if engine is None:
        reason = logger.errors[0] if logger.errors else "no reason given"
        raise BackendError(
            f"{bundle.file(info.path)}: {flavour.title} cannot load it: {reason:.200}",
            hint=f"compile it again: dspark-export compile {bundle.path} --backend {flavour.name} --overwrite",
        )
    return engine


def load_engines(flavour: Flavour, trt: Any, bundle: Bundle, info: BackendInfo) -> AbstractContextManager[Engines]:
    """All engines of a bundle on the device, for the duration of a `with` block."""
    from dspark_engines.backends.tensorrt.execution.assembling import Loaded, assemble

    limits, block = bundle.manifest.limits, bundle.manifest.drafter.block_size
    loaded = {}
    for record in info.engines:
        shapes = role_shapes(record.role, limits, block, record.token_buckets)
        loaded[record.role] = Loaded(load_engine(flavour, trt, bundle, record), shapes, record.greedy_drafts)
    return assemble(trt, loaded)
