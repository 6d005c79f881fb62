"""Kernels compiled without a GPU, for tests: in a process where Triton compiles."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.kernel_report import NODES, Variant, measure
from dspark_plugins.markov_head.steps import FEW_ROWS, MOST_ROWS
from dspark_plugins.nodes.compiling import compile_node
from dspark_plugins.nodes.ptx import declared_parameters, target_of

SIZES = {"vocab": 151936, "rank": 256, "hidden": 2560, "block": 7}
OPS = tuple(node.op for node in NODES)
POINTER, INTEGER = "u64", "u32"


def build(op: str, architecture: int, most_rows: int = FEW_ROWS, weights: str = "fp32") -> dict[str, Any]:
    """What the report says of one kernel."""
    return asdict(measure(Variant(_node(op), most_rows, weights), architecture, SIZES))


def build_all(architectures: tuple[int, ...]) -> list[dict[str, Any]]:
    """What it says of all that a vanilla, gated or rnn head and a verification carry."""
    few = [build(op, architecture) for op in OPS for architecture in architectures]
    more = [
        build(op, architecture, rows, weights)
        for op in OPS
        if op.startswith("MarkovScores")
        for architecture in architectures
        for rows, weights in ((FEW_ROWS, "bf16"), (MOST_ROWS, "fp32"), (MOST_ROWS, "bf16"), (MOST_ROWS // 2, "fp32"))
    ]
    return few + more


def interface(op: str, architecture: int) -> tuple[str, list[str], list[str]]:
    """(target, the parameter types in the PTX, those that the node passes)."""
    node = _node(op)
    kernel = compile_node(node, {**SIZES, "step": 0, "gather": 1}, architecture, 1)
    passed = [INTEGER if name in node.integers else POINTER for name in node.parameters()]
    return target_of(kernel.ptx), [kind for kind, _ in declared_parameters(kernel.ptx, kernel.name)], passed


def _node(op: str) -> Any:
    return next(node for node in NODES if node.op == op)
