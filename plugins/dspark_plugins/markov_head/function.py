"""`dspark::MarkovHead` as an ONNX local function in standard ops, unrolled over the block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from onnxscript import OpBuilder, build_function

from dspark_plugins.domain import DOMAIN, DOMAIN_VERSION, OPSET
from dspark_plugins.drawing import draw
from dspark_plugins.int8_linear.function import call_int8_linear, call_quantize_rows
from dspark_plugins.markov_head.contract import MARKOV_HEAD, MarkovHeadSpec

TINY = 1e-30  # stands in for temperature 0 where the division's result is thrown away


def markov_head_function(spec: MarkovHeadSpec, *, branching: bool = True) -> ir.Function:
    """The function body for `spec`; see the contract for inputs and outputs.

    With `int8` it calls the functions of int8_linear, which then have to be in the model too.
    Without `branching` there is no `If` in it, which a captured CUDA graph cannot hold: every row is drawn, in
    parallel over the vocabulary, and rows at temperature 0 take the arg-max instead.
    """
    kinds = {str: ir.AttributeType.STRING, int: ir.AttributeType.INT}
    return build_function(
        lambda op, *values: _Body(op, spec, dict(zip(spec.inputs(), values, strict=True)), branching).trace(),
        [ir.Value(name=name) for name in spec.inputs()],
        domain=DOMAIN,
        name=MARKOV_HEAD,
        attributes=[ir.Attr(k, kinds[type(v)], v) for k, v in spec.attributes().items()],
        opset_imports={"": OPSET, DOMAIN: DOMAIN_VERSION} if spec.int8 else {"": OPSET},
    )


def read_node(node: ir.Node) -> MarkovHeadSpec:
    """The spec of a `dspark::MarkovHead` node; the hidden size is 0 where its input says nothing of it."""
    values: dict[str, Any] = {name: attribute.value for name, attribute in node.attributes.items()}
    hidden = node.inputs[2]
    assert hidden is not None, "the contract's third input"
    width = 0 if hidden.shape is None else hidden.shape[-1]
    width = width if isinstance(width, int) else 0
    flags = {name: bool(values.get(name)) for name in ("confidence", "confidence_with_markov", "int8", "reduced")}
    return MarkovHeadSpec(**values | {"hidden_size": width} | flags)


class _Body:
    """Traces one body; values are [B, ...] of a single position unless said otherwise."""

    def __init__(self, op: OpBuilder, spec: MarkovHeadSpec, inputs: dict[str, ir.Value], branching: bool) -> None:
        self.op, self.spec, self.inputs, self.branching = op, spec, inputs, branching
        self.state: ir.Value | None = None

    def trace(self) -> Sequence[ir.Value]:
        op, spec = self.op, self.spec
        base, hidden = self._positions("base_logits"), self._positions("hidden")
        uniforms = self._positions("uniforms")
        sampling = op.Greater(op.ReduceMax(self.inputs["temperature"], keepdims=0), 0.0) if self.branching else None
        previous, ids, logits, embeddings = self.inputs["anchor_ids"], [], [], []
        for j in range(spec.block_size):
            embedding = op.Gather(self.inputs["w1"], previous) if spec.rank else None
            biased = base[j] if embedding is None else self._biased(base[j], embedding, hidden[j])
            previous = self._choose(biased, uniforms[j], sampling, j)
            previous = op.Gather(self.inputs["vocabulary"], previous) if spec.reduced else previous
            ids.append(op.Unsqueeze(previous, [1]))
            logits.append(op.Unsqueeze(biased, [1]))
            embeddings.append(embedding)
        return op.Concat(*ids, axis=1), self._confidence(embeddings), op.Concat(*logits, axis=1)

    def _positions(self, name: str) -> list[ir.Value]:
        """An input [B, g, ...] as g values [B, ...]."""
        op, count = self.op, self.spec.block_size
        if count == 1:
            return [op.Squeeze(self.inputs[name], [1])]
        parts = op.Split(self.inputs[name], axis=1, num_outputs=count, _outputs=count)
        return [op.Squeeze(part, [1]) for part in parts]

    def _biased(self, base: ir.Value, embedding: ir.Value, hidden: ir.Value) -> ir.Value:
        op, mixed, w2 = self.op, self._mixed(embedding, hidden), self.inputs["w2"]
        if not self.spec.int8:
            return op.Gemm(mixed, w2, base, transB=1)
        return op.Add(base, call_int8_linear(op, call_quantize_rows(op, mixed), w2, self.inputs["w2_scale"]))

    def _mixed(self, embedding: ir.Value, hidden: ir.Value) -> ir.Value:
        op, spec = self.op, self.spec
        if spec.kind == "vanilla":
            return embedding
        if spec.kind == "gated":
            return op.Mul(op.Sigmoid(self._mix(hidden, embedding)), embedding)
        if self.state is None:
            self.state = op.Sub(embedding, embedding)  # zeros of the batch's shape
        mixed = self._mix(self.state, embedding, hidden)
        gate, candidate, output = op.Split(mixed, axis=-1, num_outputs=3, _outputs=3)
        keep = op.Sigmoid(gate)
        fresh = op.Mul(op.Sub(1.0, keep), op.Tanh(candidate))
        self.state = op.Add(op.Mul(keep, self.state), fresh)
        return op.Tanh(output)

    def _mix(self, *parts: ir.Value) -> ir.Value:
        joint = self.op.Concat(*parts, axis=-1)
        return self.op.Gemm(joint, self.inputs["mix_weight"], self.inputs["mix_bias"], transB=1)

    def _choose(self, logits: ir.Value, uniform: ir.Value, sampling: ir.Value | None, j: int) -> ir.Value:
        """Arg-max, or inverse CDF in rows whose temperature is above 0; branching, the CDF costs nothing if none is."""
        builder = self.op.builder
        greedy = self.op.ArgMax(logits, axis=-1, keepdims=0)
        if sampling is None:
            return self._draw(logits, uniform, greedy)
        result = _int64(f"chosen_{j}")
        builder.push_module(f"draw_{j}")  # a branch counts its values from zero too: keep their names apart
        then = builder.subgraph(lambda op: self._sample(op, logits, uniform, greedy), [], [_int64(f"sampled_{j}")])
        other = builder.subgraph(lambda op: op.Identity(greedy), [], [_int64(f"greedy_{j}")])
        builder.pop_module()
        return self.op.If(sampling, then_branch=then, else_branch=other, _outputs=[result.name])

    def _sample(self, op: OpBuilder, logits: ir.Value, uniform: ir.Value, greedy: ir.Value) -> ir.Value:
        temperature = self.inputs["temperature"]
        scaled = op.Div(logits, op.Unsqueeze(op.Max(temperature, TINY), [1]))
        cdf = op.CumSum(op.Softmax(scaled, axis=-1), 1)
        threshold = op.Mul(op.Unsqueeze(uniform, [1]), op.Slice(cdf, [-1], [2**62], [1]))
        below = op.Cast(op.LessOrEqual(cdf, threshold), to=ir.DataType.INT64)
        last = op.Sub(op.Shape(logits, start=1, end=2), 1)
        index = op.Min(op.ReduceSum(below, [1], keepdims=0), last)
        return op.Where(op.Greater(temperature, 0.0), index, greedy)

    def _draw(self, logits: ir.Value, uniform: ir.Value, greedy: ir.Value) -> ir.Value:
        op, temperature = self.op, self.inputs["temperature"]
        shifted = op.Sub(logits, op.ReduceMax(logits, [-1]))
        weights = op.Exp(op.Div(shifted, op.Unsqueeze(op.Max(temperature, TINY), [1])))
        drawn = draw(op, weights, op.Unsqueeze(uniform, [1]))
        return op.Where(op.Greater(temperature, 0.0), drawn, greedy)

    def _confidence(self, embeddings: list[Any]) -> ir.Value:
        """c [B, g] for all positions at once."""
        op, hidden = self.op, self.inputs["hidden"]
        if not self.spec.confidence:
            return op.Add(op.Mul(self.inputs["uniforms"], 0.0), float("inf"))
        if self.spec.confidence_with_markov:
            seen = op.Concat(*(op.Unsqueeze(e, [1]) for e in embeddings), axis=1)
            hidden = op.Concat(hidden, seen, axis=-1)
        score = op.MatMul(hidden, op.Transpose(self.inputs["confidence_weight"], perm=[1, 0]))
        return op.Squeeze(op.Add(score, self.inputs["confidence_bias"]), [2])


def _int64(name: str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64))
