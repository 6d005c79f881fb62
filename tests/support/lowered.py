"""TensorRT's lowered graphs, run by ONNX Runtime: everything of that backend but the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from dspark_engines.backends.engine import Engines
from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.self_check import cpu_settings
from dspark_engines.backends.options import EnginePrecision
from dspark_engines.backends.padded.engines import PaddedDraftEngine, PaddedVerifyEngine
from dspark_engines.backends.padded.lowering import lower_graph, save_lowered
from dspark_engines.backends.padded.runner import NOTHING
from dspark_engines.backends.padded.shapes import StepShape, role_shapes
from dspark_engines.backends.tensorrt.building.plugin_nodes import lower_to_plugins
from dspark_engines.bundle import Bundle, Limits, Role

HALF = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
GARBAGE = 1e4  # what nobody wrote must not be read; it has to be finite, since masked cells meet a weight of 0
SOURCES: tuple[tuple[Role, str], ...] = (("verify", "target.onnx"), ("draft", "drafter.onnx"))


class OrtRunner:
    """Runs a lowered graph on stacked caches, and checks what a launch asks for."""

    def __init__(self, model: ir.Model, folder: Path, rows: int) -> None:
        emulate_half(model.graph)
        path = folder / f"{model.graph.name}.onnx"
        save_lowered(model, path)
        self._session = onnxruntime.InferenceSession(path, cpu_settings(), providers=["CPUExecutionProvider"])
        self._outputs = [value.name for value in self._session.get_outputs()]
        self._inputs = {value.name for value in self._session.get_inputs()}
        self.caches = {
            value.name: np.full((rows, *value.shape[1:]), GARBAGE, np.float32)
            for value in self._session.get_inputs()
            if "_cache" in value.name
        }
        self.launches: list[tuple[StepShape, int]] = []

    def clear(self, place: int) -> None:
        """Not zeros: nobody may read them."""
        for cache in self.caches.values():
            cache[place] = GARBAGE

    def preload(self, shape: StepShape) -> None:
        """Nothing to do."""

    def run(
        self, shape: StepShape, first: int, feeds: Mapping[str, Any], stay: frozenset[str] = NOTHING
    ) -> tuple[dict[str, Any], float]:
        self.launches.append((shape, first))
        seen = slice(first, first + shape.rows)
        caches = {name: cache[seen] for name, cache in self.caches.items()}
        read = {name: array for name, array in feeds.items() if name in self._inputs}
        results = dict(zip(self._outputs, self._session.run(None, {**read, **caches}), strict=True))
        for name in self.caches:
            self.caches[name][seen] = results.pop(name.replace("_cache.", "_cache_out."))
        return {name: array for name, array in results.items() if name not in stay}, 0.0


def lowered_graph(
    source: Path, capacity: int, precision: EnginePrecision, *, plugins_for: str = "", greedy: bool = False
) -> ir.Model:
    """`lower_graph`; with a compute capability, "9.0", as a build for TensorRT with plugins asks for it."""
    to_plugins = partial(lower_to_plugins, capability=plugins_for, greedy=greedy)
    return lower_graph(source, capacity, precision, custom_ops=to_plugins if plugins_for else None, greedy=greedy)


def lowered_engines(
    onnx_folder: Path,
    folder: Path,
    limits: Limits,
    block: int,
    precision: EnginePrecision = "fp32",
    plugins_for: str = "",
    greedy: bool = False,
    width: int = 0,
) -> Engines:
    """Both engines over ONNX Runtime, written to `folder`; half precision is float32, rounded where the graph says.

    Plugin nodes are run by their bodies.
    """
    runners = []
    for role, source in SOURCES:
        shapes = role_shapes(role, limits, block, block_width=width)
        greedy_here = greedy and role == "draft"
        model = lowered_graph(
            onnx_folder / source, shapes.capacity, precision, plugins_for=plugins_for, greedy=greedy_here
        )
        runners.append((OrtRunner(model, folder, limits.slots), shapes))
    (verify, verify_shapes), (draft, draft_shapes) = runners
    return Engines(PaddedVerifyEngine(verify, verify_shapes), PaddedDraftEngine(draft, draft_shapes, greedy))


def lowered_bundle(
    bundle: Bundle, folder: Path, precision: EnginePrecision = "fp32", plugins_for: str = "", greedy: bool = False
) -> Engines:
    """The same for a bundle."""
    limits, drafter = bundle.manifest.limits, bundle.manifest.drafter
    given = (drafter.block_size, precision, plugins_for, greedy, drafter.block_width)
    return lowered_engines(bundle.path / "onnx", folder, limits, *given)


def emulate_half(graph: ir.Graph) -> None:
    """Let float32 stand in for half precision, rounded wherever a half-precision value begins or ends."""
    for node in graph:
        if node.op_type == "Cast" and node.inputs[0] is not None and node.inputs[0].dtype in HALF:
            node.meta["half"] = node.inputs[0].dtype  # it widens a result that was rounded
    for value in [*graph.inputs, *graph.outputs]:
        if value.dtype in HALF:
            value.dtype = ir.DataType.FLOAT
    for name, value in list(graph.initializers.items()):
        if value.dtype in HALF:
            first = min((node for node, _ in value.uses()), key=list(graph).index)
            _swap_uses(value, _cast(graph, value, ir.DataType.FLOAT, f"{name}.f32", before=first))
    for node in list(graph):
        if node.op_type == "Cast" and not node.name.endswith(".f32"):
            _round(graph, node)
        else:
            for output in node.outputs:
                if output.dtype in HALF:
                    output.dtype = ir.DataType.FLOAT


def _round(graph: ir.Graph, node: ir.Node) -> None:
    source, to = node.inputs[0], ir.DataType(node.attributes["to"].as_int())
    assert source is not None
    if to in HALF:
        _swap_uses(node.outputs[0], _cast(graph, node.outputs[0], ir.DataType.FLOAT, f"{node.name}.f32", after=node))
    elif (half := node.meta.get("half")) is not None:
        node.replace_input_with(0, _cast(graph, source, half, f"{node.name}.rounded", before=node))


def _swap_uses(old: ir.Value, new: ir.Value) -> None:
    for user, index in list(old.uses()):
        if user is not new.producer():
            user.replace_input_with(index, new)


def _cast(graph: ir.Graph, x: ir.Value, to: ir.DataType, name: str, **where: ir.Node) -> ir.Value:
    cast = ir.node("Cast", [x], {"to": to}, name=name)
    cast.outputs[0].name, cast.outputs[0].dtype = name, to
    if "before" in where:
        graph.insert_before(where["before"], cast)
    else:
        graph.insert_after(where["after"], cast)
    return cast.outputs[0]
