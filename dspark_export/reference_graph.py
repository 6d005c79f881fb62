"""The exported graphs run as they are, function bodies and all: slow, and what engines are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.self_check import cpu_settings, self_check
from dspark_engines.backends.onnxruntime.session import WEIGHTS_FOLDER
from dspark_engines.bundle.caches import read_caches

Arrays = dict[str, npt.NDArray[Any]]


class ReferenceGraph:
    """An exported graph with its stacked caches [R, Hkv, C, D], kept between steps."""

    def __init__(self, path: Path, rows: int, capacity: int) -> None:
        self._session = _open(path)
        self._outputs = [value.name for value in self._session.get_outputs()]
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        self._specs = read_caches(self._session.get_modelmeta().custom_metadata_map, inputs)
        extents = {"R": rows, "C": capacity}
        self.caches: Arrays = {
            cache.input: np.zeros([extents.get(size, size) for size in inputs[cache.input]], np.float32)
            for cache in self._specs
        }

    def step(self, **feeds: npt.NDArray[Any]) -> Arrays:
        """Run one step; returns the outputs that are not caches."""
        results = dict(zip(self._outputs, self._session.run(None, {**feeds, **self.caches}), strict=True))
        for cache in self._specs:
            self.caches[cache.input] = results.pop(cache.output)
        return results


def _open(path: Path) -> onnxruntime.InferenceSession:
    """A session over the graph as it is, or with inlined functions where kernels need weights of their own."""
    settings = cpu_settings()
    if not self_check().precise:
        return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    settings.add_session_config_entry(WEIGHTS_FOLDER, str(path.parent.absolute()))
    return onnxruntime.InferenceSession(_with_own_weights(path), settings, providers=["CPUExecutionProvider"])


def _with_own_weights(path: Path) -> bytes:
    """The graph without functions, no weight shared by two integer products. Needs the extra [export]."""
    import onnx_ir as ir
    from onnx_ir.passes.common import InlinePass

    from dspark_engines.backends.onnxruntime.own_weights import give_own_weights

    model = ir.load(path)
    InlinePass()(model)
    give_own_weights(model.graph)
    serialized: bytes = ir.to_proto(model).SerializeToString()
    return serialized
