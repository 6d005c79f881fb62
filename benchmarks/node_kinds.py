"""Which part of the model a node of a compiled engine belongs to: by its weight, else by what it works on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

RENAMING = ("Reshape", "Squeeze", "Unsqueeze")
"""They pass their input on as it is: what they take is what a node takes that does nothing."""

PRODUCTS = ("MatMul", "Gemm", "MatMulInteger", "MatMulIntegerToFloat", "FusedMatMul", "DynamicQuantizeMatMul")
ATTENTION = ("GroupQueryAttention", "Softmax", "RotaryEmbedding", "FusedMatMul", "MatMul")
COPIES = ("TensorScatter", "Slice", "Transpose", "Concat", "Split", "Pad", "Gather", "Expand", "Range", "Shape", "Cast")
SCALING = {"Abs", "ReduceMax", "Mul", "Shape", "Expand", "QuantizeLinear", "DequantizeLinear", "Sub", "Concat"}
SCALING |= {"Unsqueeze", "Cast", "Split", "Add"}
LOWERED = "lowered/"
WEIGHTS = {
    "self_attn": "linears of attention",
    "mlp": "linears of the MLP",
    "fc": "fc",
    "confidence_head": "confidence",
    "markov_head": "Markov steps",
    "lm_head": "output layer",
    "embed_tokens": "output layer",
    "rotation.": "quantisation",
}
"""What a product is, by a part of its weight's name."""


def node_kinds(path: Path) -> dict[str, str]:
    """Kind of every node of a compiled graph, by its name.

    What scales activations into integers and sums back counts as quantisation: from `Abs` on to the product, and the
    lowering's own nodes behind it. Everything that follows from a Markov embedding is a Markov step.
    """
    graph = onnx.load(path, load_external_data=False).graph
    weights, kinds = {tensor.name: tensor.name for tensor in graph.initializer}, dict[str, str]()
    scaling, markov = set[str](), set[str]()
    for node in graph.node:
        weight = next((weights[name] for name in node.input if name in weights and _part(weights[name])), "")
        if weight and node.op_type == "Transpose":  # the same weight, turned around when the engine is loaded
            weights[node.output[0]] = weight
        rows_split = node.op_type == "Split" and len(node.input) > 1
        if node.op_type in PRODUCTS and weight:
            kind = _part(weight)
            scaling.update(node.output if node.op_type.startswith("MatMulInteger") else ())
        elif weight and _part(weight) == WEIGHTS["confidence_head"]:
            kind = _part(weight)
        elif markov.intersection(node.input) or "markov_w1" in weight:
            kind = "Markov steps"
        elif node.name.startswith(LOWERED) and not rows_split and _scales(node, scaling):
            kind = "quantisation"
            scaling.update(node.output)
        else:
            kind = by_operator(node.op_type)
        if kind == "Markov steps":
            markov.update(node.output)
        kinds[node.name] = kind
    return kinds


def kind_of(name: str, operator: str, kinds: Mapping[str, str]) -> str:
    """Of a node that ran: by its name, by that of the node it was fused from, or by its operator."""
    if name in kinds:
        return kinds[name]
    parts = [known for known in kinds if known and known in name]
    return kinds[max(parts, key=len)] if parts else by_operator(operator)


def by_operator(operator: str) -> str:
    """Kind of a node that no weight tells anything about."""
    if "Norm" in operator:
        return "norms"
    if operator in ATTENTION:
        return "attention"
    if operator in (*COPIES, *RENAMING):
        return "caches, copies, shapes"
    return "activations, residuals, the rest"


def _scales(node: onnx.NodeProto, scaling: set[str]) -> bool:
    return node.op_type == "Abs" or (node.op_type in SCALING and bool(scaling.intersection(node.input)))


def _part(weight: str) -> str:
    return next((kind for part, kind in WEIGHTS.items() if part in weight), "")
