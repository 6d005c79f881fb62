"""The integer layers of an exported graph, read back from it: what the engines will really compute with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dspark_engines.arrays import Floats
from dspark_export.quantization.rotation import MATRIX
from dspark_plugins.domain import DOMAIN
from dspark_plugins.int8_linear import INT8_LINEAR, QUANTIZE_ROWS
from dspark_plugins.int8_linear.function import op_name
from dspark_plugins.markov_head import MARKOV_HEAD

TERMS = {op_name(INT8_LINEAR, terms): terms for terms in (1, 2)}
INT8, SMOOTHED = ".int8", ".smoothed"
SMOOTHING = {"RMSNormalization": SMOOTHED, "Div": ".smoothing"}
"""How an initializer's name ends with which a node smooths, by the node's operator."""


class Int8Layer(NamedTuple):
    """weight [K, N] int8 and scale [N].

    A smoothed input has either `factors` [K] that it is divided by, or `norm`, the name of the weight of the norm
    that it comes from, and `smoothed_norm` [K], what is left of that weight when the factors are divided out.
    `rotation`: size of the blocks that it is then rotated by, or 0.
    """

    terms: int
    weight: npt.NDArray[np.int8]
    scale: Floats
    factors: Floats | None = None
    norm: str = ""
    smoothed_norm: Floats | None = None
    rotation: int = 0


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
            layer = Int8Layer(TERMS.get(node.op_type, 1), _array(inputs[index]), _array(inputs[index + 1]))
            layers[name] = layer if node.op_type == MARKOV_HEAD else _with_preparation(layer, inputs[0])
    return layers


def _with_preparation(layer: Int8Layer, rows: ir.Value) -> Int8Layer:
    """`layer` with the smoothing and rotation of what was quantised to `rows`."""
    quantize = rows.producer()
    if quantize is not None and quantize.op_type == "Concat" and quantize.inputs[0] is not None:
        quantize = quantize.inputs[0].producer()  # joined rows: every part is prepared alike
    if quantize is None or not quantize.op_type.startswith(QUANTIZE_ROWS) or quantize.inputs[0] is None:
        return layer
    x, rotation = _unrotated(quantize.inputs[0])
    layer, producer = layer._replace(rotation=rotation), x.producer()
    factor = None if producer is None or producer.op_type not in SMOOTHING else producer.inputs[1]
    name = "" if factor is None else factor.name or ""
    if factor is None or producer is None or not name.endswith(SMOOTHING[producer.op_type]):
        return layer
    if producer.op_type == "Div":
        return layer._replace(factors=_array(factor))
    return layer._replace(norm=name.removesuffix(SMOOTHED), smoothed_norm=_array(factor))


def _unrotated(x: ir.Value) -> tuple[ir.Value, int]:
    """What was rotated to x, and the size of the rotation's blocks; x itself and 0 where nothing was."""
    value, matrix = x, None
    for operator in ("Reshape", "MatMul", "Reshape"):
        node = value.producer()
        if node is None or node.op_type != operator or node.inputs[0] is None:
            return x, 0
        value, matrix = node.inputs[0], node.inputs[1] if operator == "MatMul" else matrix
    if matrix is None or not (matrix.name or "").startswith(MATRIX):
        return x, 0
    return value, len(_array(matrix))


def _array(value: ir.Value) -> npt.NDArray[Any]:
    assert value.const_value is not None, "initializers have values"
    return value.const_value.numpy()
