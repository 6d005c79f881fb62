"""The draft graph of a chain: one token after the other, each from the state that the step before left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from dspark_engines.backends.exported import NEXT_IDS
from dspark_export.checkpoints import DrafterSpec, Weights
from dspark_export.graphs.chain_step import ChainDecoder, Pairs, run_stage
from dspark_export.graphs.draft_outputs import base_logits, vocabulary, write_outputs
from dspark_export.graphs.writer import GraphWriter
from dspark_plugins.markov_head import MarkovHeadSpec
from dspark_plugins.markov_head.function import markov_head_function

INT64 = ir.DataType.INT64
DRAWN = ("ids", "confidence", "logits")


def build_chain_graph(
    spec: DrafterSpec, weights: Weights, shared: Mapping[str, ir.TensorProtocol], positions: int
) -> ir.Model:
    """Draft graph of a chain (`DrafterSpec.chain`).

    Inputs and outputs are those of `build_drafter_graph`, and next_ids [M]: the token behind each feature's own, the
    last of a row being its anchor. A row has one feature at least. The first step reads all of them; with several
    stages so does the first step of each, whose tokens lie one further on and end with the one just drafted. Every
    other step reads one pair a row, at the position behind.
    """
    chain = _Chain(spec, GraphWriter("drafter", weights, shared), positions)
    for step in range(spec.draft_length):
        chain.draft(step)
    chain.finish()
    return chain.writer.model()


@dataclass(frozen=True)
class _Draws:
    """What temperature [R] and uniforms [R, g] let a row draw."""

    temperature: ir.Value
    uniforms: ir.Value


class _Chain:
    def __init__(self, spec: DrafterSpec, w: GraphWriter, positions: int) -> None:
        assert spec.chain is not None, "only chains are built here"
        self.spec, self.chain, self.writer, self.op = spec, spec.chain, w, w.op
        features, lengths = w.input("features", ["M", spec.feature_size]), w.input("feature_lengths", ["R"], INT64)
        used, self.anchors = w.input("used", ["R"], INT64), w.input("anchor_ids", ["R"], INT64)
        self.draws = _Draws(w.input("temperature", ["R"]), w.input("uniforms", ["R", spec.draft_length]))
        self.pairs = Pairs(features, w.input(NEXT_IDS, ["M"], INT64), lengths, used, "M")
        self.last = self.op.Sub(self.op.CumSum(lengths, 0), 1)
        self.ones = self.op.Expand(1, self.op.Shape(self.anchors))
        self.decoder = ChainDecoder(w, spec.shape, lengths, used, positions)
        self.results: list[Sequence[ir.Value]] = []

    def draft(self, step: int) -> None:
        """One token a row, and the pairs that the next step reads."""
        stage, wide = min(step, self.chain.stages - 1), step < self.chain.stages
        ends = wide and stage == self.chain.stages - 1
        self.decoder.begin(step, self.pairs, self.last if ends else None)
        left = run_stage(self.decoder, self.spec, stage, self.pairs, first=step == 0)
        hidden = left.normed if not wide or ends else self.op.Gather(left.normed, self.last)
        ids, *_ = result = self._draw(step, hidden)
        self.results.append(result)
        drafted = self.op.Squeeze(ids, [1])
        self.pairs = self._one_each(left.state, drafted) if not wide or ends else self._all(left.state, drafted)

    def finish(self) -> None:
        """The graph's outputs."""
        joined = [self._joined(parts) for parts in zip(*self.results, strict=True)]
        write_outputs(self.writer, self.spec, *joined)
        self.decoder.finish_caches()

    def _one_each(self, state: ir.Value, drafted: ir.Value) -> Pairs:
        """The drafted tokens [R] and the states [R, H] that they were drafted from, behind what is cached."""
        used = self.op.Add(self.pairs.used, self.pairs.lengths)
        return Pairs(state, drafted, self.ones, used, "R")

    def _all(self, state: ir.Value, drafted: ir.Value) -> Pairs:
        """The next stage's: states [M, H], and the tokens one further on."""
        op, ids = self.op, self.pairs.ids
        moved = op.Concat(op.Slice(ids, [1], [2**62], [0]), op.Slice(ids, [0], [1], [0]), axis=0)
        return replace(self.pairs, state=state, ids=op.ScatterElements(moved, self.last, drafted, axis=0))

    def _draw(self, step: int, hidden: ir.Value) -> Sequence[ir.Value]:
        """draft ids, confidence logits, logits [R, 1, ...] of normed states [R, H]."""
        op, spec = self.op, self.spec
        head = MarkovHeadSpec("none", 1, 0, spec.shape.hidden_size, False, False, reduced=bool(spec.draft_vocabulary))
        base = op.Unsqueeze(base_logits(self.writer, spec, hidden), [1])
        uniforms = op.Slice(self.draws.uniforms, [step], [step + 1], [1])
        inputs = [base, self.anchors, op.Unsqueeze(hidden, [1]), self.draws.temperature, uniforms]
        inputs += [vocabulary(self.writer, spec)] if head.reduced else []
        names = [f"step{step}.{name}" for name in DRAWN]
        results: Sequence[ir.Value] = op.call(markov_head_function(head), *inputs, _outputs=names, **head.attributes())
        return results

    def _joined(self, parts: Sequence[ir.Value]) -> ir.Value:
        joined: ir.Value = self.op.Concat(*parts, axis=1)
        return joined
