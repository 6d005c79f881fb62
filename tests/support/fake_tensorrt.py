"""A TensorRT that parses and builds nothing: which calls a build makes of it, in which order, and with which graph.

Its parser chooses as TensorRT's does: a node with the attribute `plugin_namespace` becomes a plugin if one of that name
is registered; else a standard operator, else the model's function of that name, else the node is refused.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest

VERSION = "11.4.0.106"
NATIVE = {"TensorScatter": "KV_CACHE_UPDATE", "Attention": "ATTENTION_INPUT", "RotaryEmbedding": "ROTARY_EMBEDDING"}
DEVICE = "dspark_engines.backends.tensorrt"


class Layer(SimpleNamespace):
    """A layer; TensorRT's class of it is set by whoever finds out."""


class Base:
    """What user code derives from."""


class FakeTensorRt(ModuleType):
    """Stands in for the module `tensorrt`, with `plugin` in it; `events` are what was asked, in order."""

    __version__ = VERSION
    ILogger = type("ILogger", (Base,), {"Severity": SimpleNamespace(ERROR=1)})
    IProgressMonitor = type("IProgressMonitor", (Base,), {})
    IStreamWriter = type("IStreamWriter", (Base,), {})
    IAttentionInputLayer = Layer
    ProfilingVerbosity = SimpleNamespace(DETAILED=2)
    BuilderFlag = SimpleNamespace(TF32=5)
    DataType = SimpleNamespace(INT32=3)
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    LayerInformationFormat = SimpleNamespace(JSON=1)
    LayerType = SimpleNamespace(ATTENTION_INPUT="ATTENTION_INPUT", PLUGIN_V3="PLUGIN_V3")
    ComputeCapability = SimpleNamespace(__members__={"SM80": 80, "SM89": 89})  # the real one has it too, for nothing

    def __init__(self) -> None:
        super().__init__("tensorrt")
        self.events: list[str] = []
        self.parsed: list[onnx.ModelProto] = []
        self.configs: list[Config] = []
        self.registry: dict[str, list[str]] = {}
        self.plugin = ModuleType("tensorrt.plugin")
        vars(self.plugin).update(
            _lib=SimpleNamespace(QDP_REGISTRY=self.registry),
            register=lambda name: lambda described: self._register(name, described),
            aot_impl=lambda name: lambda implemented: self.events.append(f"kernel of {name}"),
            **{name: type(name, (), {}) for name in ("TensorDesc", "KernelLaunchParams", "SymIntExprs")},
        )

    def _register(self, name: str, described: Callable[..., Any]) -> None:
        self.events.append(f"register {name}")
        parameters = inspect.signature(described).parameters.values()
        self.registry[name] = [parameter.name for parameter in parameters if parameter.annotation is int]

    def Builder(self, logger: Any) -> Any:
        return SimpleNamespace(
            logger=logger,
            create_network=lambda flags: Network(),
            create_builder_config=self._config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *shapes: None),
            build_serialized_network_to_stream=self._build,
        )

    def _config(self) -> Config:
        self.configs.append(Config())
        return self.configs[-1]

    def _build(self, network: Network, config: Any, stream: Any) -> bool:
        self.events.append("build")
        return stream.write(b"engine") == len(b"engine")

    def OnnxParser(self, network: Network, logger: Any) -> Parser:
        return Parser(self, network)

    def Runtime(self, logger: Any) -> Any:
        text = json.dumps({"Layers": ["fused"], "Bindings": []})
        inspector = SimpleNamespace(get_engine_information=lambda layout: text)
        engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
        return SimpleNamespace(deserialize_cuda_engine=lambda data: engine)


class Config:
    """Builder settings. TensorRT has those for other GPUs, and they are not for this flavour."""

    def __init__(self) -> None:
        self.profiles = 0
        self.cleared: list[int] = []

    def clear_flag(self, flag: int) -> None:
        self.cleared.append(flag)

    def add_optimization_profile(self, profile: Any) -> None:
        self.profiles += 1

    def set_compute_capability(self, *arguments: Any) -> None:
        raise AssertionError("TensorRT builds for the GPU that is here")


class Network:
    """What the parser made."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.layers: list[Layer] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_input(self, index: int) -> Any:
        return self.inputs[index]

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def add_cast(self, tensor: Any, dtype: Any) -> Any:
        return SimpleNamespace(get_output=lambda index: tensor)


class Parser:
    """Chooses what becomes of a node."""

    def __init__(self, trt: FakeTensorRt, network: Network) -> None:
        self.trt, self.network, self.errors = trt, network, list[Any]()

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> Any:
        return self.errors[index]

    def parse_from_file(self, path: str) -> bool:
        self.trt.events.append("parse")
        model = onnx.load(path, load_external_data=False)
        self.trt.parsed.append(model)
        functions = {function.name for function in model.functions}
        for value in model.graph.input:
            sizes = tuple(
                size.dim_value if size.HasField("dim_value") else -1 for size in value.type.tensor_type.shape.dim
            )
            self.network.inputs.append(SimpleNamespace(name=value.name, shape=sizes))
        for node in model.graph.node:
            kind = self._kind(node, functions)
            if kind is None:
                self._refuse(node, f"No importer registered for op: {node.op_type}")
                return False
            self.network.layers.append(Layer(name=node.name, type=kind, attention=SimpleNamespace()))
        return True

    def _kind(self, node: onnx.NodeProto, functions: set[str]) -> str | None:
        given = {attribute.name: attribute for attribute in node.attribute}
        if "plugin_namespace" in given:
            name = f"{given.pop('plugin_namespace').s.decode()}::{node.op_type}"
            if name in self.trt.registry:
                assert sorted(given) == sorted(self.trt.registry[name]), name
                return "PLUGIN_V3"
        if node.domain == "":
            return NATIVE.get(node.op_type, "ELEMENTWISE")
        return "SHUFFLE" if node.op_type in functions else None

    def _refuse(self, node: onnx.NodeProto, words: str) -> None:
        self.errors.append(
            SimpleNamespace(node_name=lambda: node.name, node_operator=lambda: node.op_type, desc=lambda: words)
        )


def install(patch: pytest.MonkeyPatch, gpu: str | None = "9.0") -> FakeTensorRt:
    """TensorRT is installed, and the machine's GPU is of that compute capability."""
    trt = FakeTensorRt()
    patch.setitem(sys.modules, "tensorrt", trt)
    patch.setitem(sys.modules, "tensorrt.plugin", trt.plugin)
    for user in ("building.target", "building.build", "execution.open"):
        patch.setattr(f"{DEVICE}.{user}.local_capability", lambda flavour: gpu)
    return trt


def engine_report(bundle: Path, role: str) -> Any:
    """What lies beside an engine."""
    return json.loads((bundle / "engines" / "tensorrt" / f"{role}.layers.json").read_text())
