"""`dspark::MarkovHead` nodes replaced by the chain of plugin nodes that TensorRT runs instead.

What is no step stays in standard operators, which TensorRT has: the mix layer's part that depends on hidden states
alone, for all positions in one product, and the confidence head.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dspark_plugins.markov_head import steps
from dspark_plugins.markov_head.contract import MARKOV_HEAD, OUTPUTS, MarkovHeadSpec
from dspark_plugins.markov_head.step_functions import step_functions
from dspark_plugins.nodes.rewriting import ChainWriter, replace_nodes


def lower_markov_heads(model: ir.Model, compute_capability: int, sampling: bool) -> int:
    """Replace the model's `dspark::MarkovHead` nodes; returns how many were. `model` is changed.

    A greedy chain (`sampling` False) takes every temperature for 0 and has no `draft_logits`: as an output of the
    graph it is removed. A head of kind "none" has no sequential steps and stays as it is, with its function body;
    so does one with a draft vocabulary, which no kernel knows.
    Raises `ValueError` where the graph uses `draft_logits` in a greedy chain, or a weight's shape is unknown.
    """
    return replace_nodes(
        model,
        MARKOV_HEAD,
        OUTPUTS,
        step_functions(),
        compute_capability,
        lambda writer, node: _Chain(writer, node, sampling).write(),
    )


class _Chain:
    """One node's chain."""

    def __init__(self, writer: ChainWriter, node: ir.Node, sampling: bool) -> None:
        self.writer, self.op, self.sampling = writer, writer.op, sampling
        self.kind = _attribute(node, "kind")
        self.confidence, self.with_markov = _attribute(node, "confidence"), _attribute(node, "confidence_with_markov")
        block, rank = _attribute(node, "block_size"), _attribute(node, "rank")
        self.stays = self.kind == "none" or "reduced" in node.attributes
        if self.stays:
            return
        # The names do not depend on the hidden size; it is read off the weights below.
        spec = MarkovHeadSpec(self.kind, block, rank, 0, bool(self.confidence), bool(self.with_markov))
        self.inputs: dict[str, Any] = dict(zip(spec.inputs(), node.inputs, strict=True))
        self.attributes = {"block": block, "rank": rank, "gather": int(self.kind == "vanilla")}
        self.attributes |= {"vocab": _shape(self.inputs["w2"])[0], "hidden": 0}
        if self.kind != "vanilla":
            states = 2 if self.kind == "rnn" else 1
            self.attributes["hidden"] = _shape(self.inputs["mix_weight"])[1] - states * rank

    def write(self) -> dict[str, Any] | None:
        """The outputs that the chain has, by name."""
        if self.stays:
            return None
        op, projected = self.op, self._projected()
        previous: Any = self.inputs["anchor_ids"]
        state = self._zeros() if self.kind == "rnn" else None
        before, ids, logits = [], [], []
        for step in range(self.attributes["block"]):
            before.append(op.Unsqueeze(previous, [1]))
            mixed = self._mix(step, projected=projected, previous=previous, state=state)
            state = mixed.get("next_state")
            scores = self._scores(step, mixed.get("mixed", self.inputs["w1"]), previous)
            node = steps.PICK if self.sampling else steps.PICK_GREEDY
            previous = self._call(node, step, **scores)["ids"]
            ids.append(op.Unsqueeze(previous, [1]))
            if self.sampling:
                logits.append(op.Unsqueeze(scores["logits"], [1]))
        outputs = {"draft_ids": op.Concat(*ids, axis=1), "confidence_logits": self._confidence(before)}
        return outputs | ({"draft_logits": op.Concat(*logits, axis=1)} if self.sampling else {})

    def _call(self, node: Any, step: int, **values: Any) -> dict[str, Any]:
        return self.writer.call(node, {**self.inputs, **values}, {**self.attributes, "step": step})

    def _projected(self) -> Any:
        """[B, g, r or 3r], or None for a vanilla head."""
        if self.kind == "vanilla":
            return None
        op, start = self.op, 2 * self.attributes["rank"] if self.kind == "rnn" else 0
        weight = op.Slice(self.inputs["mix_weight"], [start], [start + self.attributes["hidden"]], [1])
        product = op.MatMul(self.inputs["hidden"], op.Transpose(weight, perm=[1, 0]))
        return op.Add(product, self.inputs["mix_bias"])

    def _zeros(self) -> Any:
        """[B, r]."""
        embedding = self.op.Gather(self.inputs["w1"], self.inputs["anchor_ids"])
        return self.op.Sub(embedding, embedding)

    def _mix(self, step: int, **values: Any) -> dict[str, Any]:
        if self.kind == "vanilla":
            return {}
        return self._call(steps.MIX_RNN if self.kind == "rnn" else steps.MIX_GATED, step, **values)

    def _scores(self, step: int, table: Any, previous: Any) -> dict[str, Any]:
        return self._call(steps.SCORES if self.sampling else steps.SCORES_GREEDY, step, table=table, index=previous)

    def _confidence(self, before: list[Any]) -> Any:
        """c [B, g] for all positions at once; `before` holds the tokens [B, 1] in front of each."""
        op, seen = self.op, self.inputs["hidden"]
        if not self.confidence:
            return op.Add(op.Mul(self.inputs["uniforms"], 0.0), float("inf"))
        if self.with_markov:
            seen = op.Concat(seen, op.Gather(self.inputs["w1"], op.Concat(*before, axis=1)), axis=-1)
        score = op.MatMul(seen, op.Transpose(self.inputs["confidence_weight"], perm=[1, 0]))
        return op.Squeeze(op.Add(score, self.inputs["confidence_bias"]), [2])


def _attribute(node: ir.Node, name: str) -> Any:
    if name not in node.attributes:
        raise ValueError(f"{node.op_type} {node.name} has no attribute {name}")
    return node.attributes[name].value


def _shape(value: ir.Value) -> tuple[int, int]:
    shape = value.shape
    if shape is None or len(shape) != 2 or not all(isinstance(size, int) for size in shape):
        raise ValueError(f"{value.name}: a weight's shape must be two known numbers, not {shape}")
    return int(shape[0]), int(shape[1])  # type: ignore[arg-type]
