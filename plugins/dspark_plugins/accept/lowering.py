"""`dspark::Accept` nodes replaced by the chain of plugin nodes that TensorRT runs instead."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dspark_plugins.accept import steps
from dspark_plugins.accept.contract import ACCEPT, INPUTS, OUTPUTS
from dspark_plugins.accept.step_functions import step_functions
from dspark_plugins.nodes.rewriting import ChainWriter, replace_nodes


def lower_accept_nodes(model: ir.Model, compute_capability: int, sampling: bool) -> int:
    """Replace the model's `dspark::Accept` nodes; returns how many were. `model` is changed.

    A greedy chain (`sampling` False) takes every temperature for 0, and reads neither draft_logits nor uniforms.
    Raises `ValueError` where the size of the vocabulary is not known from the shape of the logits.
    """
    return replace_nodes(
        model,
        ACCEPT,
        OUTPUTS,
        step_functions(),
        compute_capability,
        lambda writer, node: _write(writer, node, sampling),
    )


def _write(writer: ChainWriter, node: ir.Node, sampling: bool) -> dict[str, Any]:
    values: dict[str, Any] = dict(zip(INPUTS, node.inputs, strict=True))
    attributes = {"vocab": _vocabulary(values["logits"]), "block": node.attributes["block_size"].as_int()}
    for step in steps.SAMPLING if sampling else steps.GREEDY:
        values |= writer.call(step, values, attributes)
    return {"accepted": values["accepted"], "next_ids": values["next_ids" if sampling else "best_ids"]}


def _vocabulary(logits: ir.Value) -> int:
    size = logits.shape[-1] if logits.shape is not None else None
    if not isinstance(size, int):
        raise ValueError(f"{logits.name}: the vocabulary's size must be known, not {size}")
    return size
