"""Build one engine: lower, write, parse, profile, compile."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir

from dspark_engines.backends.options import CompileOptions, EnginePrecision
from dspark_engines.backends.padded.lowering import lower_graph, save_lowered
from dspark_engines.backends.padded.shapes import RoleShapes
from dspark_engines.backends.tensorrt.building.config import make_config, save_timing_cache
from dspark_engines.backends.tensorrt.building.memory import check_memory
from dspark_engines.backends.tensorrt.building.monitor import make_monitor
from dspark_engines.backends.tensorrt.building.network import check_plugins, parse_network
from dspark_engines.backends.tensorrt.building.plugin_nodes import (
    drop_bodies,
    lower_to_plugins,
    plugin_nodes,
    plugin_ops,
)
from dspark_engines.backends.tensorrt.building.plugins import register_plugins
from dspark_engines.backends.tensorrt.building.profiles import add_profiles
from dspark_engines.backends.tensorrt.building.report import engine_report, network_report, write_report
from dspark_engines.backends.tensorrt.building.writer import EngineFile
from dspark_engines.backends.tensorrt.device import local_capability
from dspark_engines.backends.tensorrt.flavours import Flavour
from dspark_engines.backends.tensorrt.logger import make_logger
from dspark_engines.bundle import Role
from dspark_engines.errors import BackendError


@dataclass(frozen=True)
class EngineRequest:
    """One engine to build: `source` is the exported graph, `destination` the engine's file.

    With `plugins` the ops that have kernels become plugins; a `greedy` engine is for temperature 0 only.
    """

    role: Role
    source: Path
    destination: Path
    shapes: RoleShapes
    precision: EnginePrecision
    capability: str
    plugins: bool = False
    greedy: bool = False


def build_engine(flavour: Flavour, trt: Any, request: EngineRequest, options: CompileOptions) -> tuple[str, ...]:
    """Write `request.destination`, and beside it a report of its layers, `NAME.layers.json`.

    Returns the custom ops that it runs as plugins. Raises `BackendError` with the library's own words when it cannot
    build.
    """
    if request.plugins:
        register_plugins(flavour)
    with tempfile.TemporaryDirectory(prefix=".lowered.", dir=request.destination.parent) as folder:
        model = Path(folder) / request.source.name
        lowered = _lower(request)
        check_memory(save_lowered(lowered, model))
        logger = make_logger(trt)
        builder = trt.Builder(logger)
        network = parse_network(trt, builder, logger, model)
        check_plugins(trt, network, len(plugin_nodes(lowered)))
        config = make_config(flavour, trt, builder, request.capability, options)
        add_profiles(builder, config, network, request.shapes)
        _compile(flavour, trt, builder, network, config, request, options)
    save_timing_cache(config, options.timing_cache)
    report = network_report(network)
    if local_capability(flavour) == request.capability:
        report = engine_report(trt, trt.Runtime(logger), request.destination) or report
    write_report(request.destination.with_suffix(".layers.json"), report)
    return plugin_ops(lowered)


def _lower(request: EngineRequest) -> ir.Model:
    """The graph that TensorRT is handed."""
    to_plugins = partial(lower_to_plugins, capability=request.capability, greedy=request.greedy)
    lowered = lower_graph(
        request.source,
        request.shapes.capacity,
        request.precision,
        custom_ops=to_plugins if request.plugins else None,
        greedy=request.greedy,
    )
    drop_bodies(lowered)
    return lowered


def _compile(
    flavour: Flavour, trt: Any, builder: Any, network: Any, config: Any, request: EngineRequest, options: CompileOptions
) -> None:
    config.progress_monitor = monitor = make_monitor(trt, options.progress)
    with EngineFile(trt, request.destination) as file:
        done = builder.build_serialized_network_to_stream(network, config, file.stream)
    if monitor.interrupted is not None:
        raise monitor.interrupted
    if file.error is not None:
        raise file.error
    if not done:
        reason = next(iter(builder.logger.errors), "no reason given")
        raise BackendError(
            f"{flavour.title} {trt.__version__} cannot build the {request.role} engine: {reason:.300}",
            hint="another --engine-precision or fewer --slots may do; docs/tensorrt.md says what is supported",
        )
