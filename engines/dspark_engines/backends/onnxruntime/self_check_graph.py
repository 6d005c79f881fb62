"""Writes self_check.onnx, which lies beside this file. Needs the package onnx; running the check does not.

python -m dspark_engines.backends.onnxruntime.self_check_graph
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GRAPH = Path(__file__).with_name("self_check.onnx")
INNER, COLUMNS = 64, 32
BLOCK = 32
HEADS, KV_HEADS, WIDTH, CAPACITY = 4, 2, 16, 16
ZERO_POINT = 128
OPSET, IR_VERSION = 21, 10


def weights() -> np.ndarray:
    """[64, 32] int8: columns of 127 and of -127, so that two products of one pair leave 16 bits."""
    column = np.where(np.arange(COLUMNS) % 2, -127, 127)
    return np.tile(column, (INNER, 1)).astype(np.int8)


def self_check_graph() -> onnx.ModelProto:
    """levels [n, 64] uint8 -> integers, scaled [n, 32]; values [n, 64] -> rotated [2n, 32], attended [1, n, 64]."""
    constants = {
        "weights": weights(),
        "scaled_weights": weights(),  # not shared: ONNX Runtime rewrites weights for some kernels, node by node
        "zero_point": np.array(ZERO_POINT, np.uint8),
        "one": np.ones(1, np.float32),
        "scales": np.ones(COLUMNS, np.float32),
        "rotation": np.random.default_rng(0).standard_normal((BLOCK, BLOCK)).astype(np.float32),
        "blocks": np.array([-1, BLOCK]),
        "first": np.array([0]),
    }
    nodes = [
        helper.make_node("MatMulInteger", ["levels", "weights", "zero_point"], ["integers"]),
        _microsoft("MatMulIntegerToFloat", ["levels", "scaled_weights", "one", "scales", "zero_point"], ["scaled"]),
        helper.make_node("Reshape", ["values", "blocks"], ["short_rows"]),
        helper.make_node("MatMul", ["short_rows", "rotation"], ["rotated"]),
        helper.make_node("Unsqueeze", ["values", "first"], ["queries"]),
        helper.make_node("Slice", ["queries", "first", "cells_end", "last_axis"], ["cells"]),
        _attention(),
    ]
    constants |= {"cells_end": np.array([KV_HEADS * WIDTH]), "last_axis": np.array([2])}
    graph = helper.make_graph(nodes, "self_check", _inputs(), _outputs(), _initializers(constants))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _attention() -> onnx.NodeProto:
    inputs = ["queries", "cells", "cells", "past_key", "past_value", "last", "total"]
    outputs = ["attended", "present_key", "present_value"]
    return _microsoft("GroupQueryAttention", inputs, outputs, num_heads=HEADS, kv_num_heads=KV_HEADS)


def _microsoft(op_type: str, inputs: list[str], outputs: list[str], **attributes: int) -> onnx.NodeProto:
    node = helper.make_node(op_type, inputs, outputs, domain="com.microsoft")
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return node


def _inputs() -> list[onnx.ValueInfoProto]:
    cache = [1, KV_HEADS, CAPACITY, WIDTH]
    return [
        helper.make_tensor_value_info("levels", TensorProto.UINT8, ["n", INNER]),
        helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n", HEADS * WIDTH]),
        helper.make_tensor_value_info("past_key", TensorProto.FLOAT, cache),
        helper.make_tensor_value_info("past_value", TensorProto.FLOAT, cache),
        helper.make_tensor_value_info("last", TensorProto.INT32, [1]),
        helper.make_tensor_value_info("total", TensorProto.INT32, []),
    ]


def _outputs() -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info("integers", TensorProto.INT32, ["n", COLUMNS]),
        helper.make_tensor_value_info("scaled", TensorProto.FLOAT, ["n", COLUMNS]),
        helper.make_tensor_value_info("rotated", TensorProto.FLOAT, ["m", BLOCK]),
        helper.make_tensor_value_info("attended", TensorProto.FLOAT, [1, "n", HEADS * WIDTH]),
    ]


def _initializers(constants: dict[str, np.ndarray]) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(array, name) for name, array in constants.items()]


if __name__ == "__main__":
    onnx.save(self_check_graph(), GRAPH)
