"""Kernels compiled without a GPU, for tests: in a process where Triton compiles."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dspark_plugins.markov_head.steps import FEW_ROWS, MOST_ROWS
from dspark_plugins.nodes.compiling import compile_node
from dspark_plugins.nodes.node import WEIGHT
from dspark_plugins.nodes.ptx import declared_parameters
from kernel_report import NODES, Variant, measure

SIZES = {"vocab": 151936, "rank": 256, "hidden": 2560, "block": 7}
OPS = tuple(node.op for node in NODES)
POINTER, INTEGER = "u64", "u32"


def build(op: str, architecture: int, most_rows: int = FEW_ROWS, weights: str = "fp32") -> dict[str, Any]:
    """What the report says of one kernel; `declared`: its parameters' types in the PTX, `passed`: those of the node."""
    node = _node(op)
    report = asdict(measure(Variant(node, most_rows, weights), architecture, SIZES))
    types = {name: weights for name, kind in node.inputs.items() if kind == WEIGHT}
    kernel = compile_node(node, {**SIZES, "step": 0, "gather": 1}, architecture, most_rows, types)  # from the cache
    report["declared"] = [kind for kind, _ in declared_parameters(kernel.ptx, kernel.name)]
    report["passed"] = [INTEGER if name in node.integers else POINTER for name in node.parameters()]
    return report


def build_all(architectures: tuple[int, ...]) -> list[dict[str, Any]]:
    """What it says of all that a vanilla, gated or rnn head and accepting carry."""
    few = [build(op, architecture) for op in OPS for architecture in architectures]
    more = [
        build(op, architecture, rows, weights)
        for op in OPS
        if op.startswith("MarkovScores")
        for architecture in architectures
        for rows, weights in ((FEW_ROWS, "bf16"), (MOST_ROWS, "fp32"), (MOST_ROWS, "bf16"), (MOST_ROWS // 2, "fp32"))
    ]
    return few + more


def _node(op: str) -> Any:
    return next(node for node in NODES if node.op == op)
