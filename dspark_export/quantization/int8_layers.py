"""The integer layers of an exported graph, read back from it: what the engines will really compute with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dspark_export.quantization.weights import Floats
from dspark_plugins.domain import DOMAIN
from dspark_plugins.int8_linear import INT8_LINEAR, QUANTIZE_ROWS
from dspark_plugins.int8_linear.function import op_name
from dspark_plugins.markov_head import MARKOV_HEAD

TERMS = {op_name(INT8_LINEAR, terms): terms for terms in (1, 2)}
INT8, SMOOTHED = ".int8", ".smoothed"


class Int8Layer(NamedTuple):
    """weight [K, N] int8 and scale [N]; `norm` names the norm's weight that the smoothing factors were divided out
    of, and `smoothed_norm` [K] is what is left of it."""

    terms: int
    weight: npt.NDArray[np.int8]
    scale: Floats
    norm: str | None = None
    smoothed_norm: Floats = np.empty(0, np.float32)


def read_int8_layers(path: Path) -> dict[str, Int8Layer]:
    """Every integer layer of a graph, by the name that its weight had in float32."""
    layers = {}
    for node in ir.load(path).graph:
        if node.domain != DOMAIN or node.op_type not in (MARKOV_HEAD, *TERMS):
            continue
        inputs = [value for value in node.inputs if value is not None]
        weights = [index for index, value in enumerate(inputs) if (value.name or "").endswith(INT8)]
        for index in weights:  # one; none in a head that was kept in float32
            name = (inputs[index].name or "").removesuffix(INT8)
            arrays = _array(inputs[index]), _array(inputs[index + 1])
            norm = None if node.op_type == MARKOV_HEAD else _smoothed_norm(inputs[0])
            smoothing = () if norm is None else ((norm.name or "").removesuffix(SMOOTHED), _array(norm))
            layers[name] = Int8Layer(TERMS.get(node.op_type, 1), *arrays, *smoothing)
    return layers


def _smoothed_norm(rows: ir.Value) -> ir.Value | None:
    """The weight of the norm whose output was quantised to `rows`, if it was smoothed."""
    quantize = rows.producer()
    if quantize is None or not quantize.op_type.startswith(QUANTIZE_ROWS) or quantize.inputs[0] is None:
        return None
    norm = quantize.inputs[0].producer()
    weight = None if norm is None or norm.op_type != "RMSNormalization" else norm.inputs[1]
    return weight if weight is not None and (weight.name or "").endswith(SMOOTHED) else None


def _array(value: ir.Value) -> npt.NDArray[Any]:
    assert value.const_value is not None, "initializers have values"
    return value.const_value.numpy()
