"""What every draft graph puts out, and the logits that it comes from."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dspark_engines.backends.exported import SCORES
from dspark_export.checkpoints import DrafterSpec
from dspark_export.graphs.writer import GraphWriter
from dspark_plugins.draft_vocabulary import places
from dspark_plugins.draft_vocabulary.function import expand_function
from dspark_plugins.markov_head import OUTPUTS

VOCABULARY = "draft_vocabulary"
SCORE_NAMES = ("log_probability", "margin")
"""Of the most likely token at temperature 1, and how far the second's log-probability lies below."""


def base_logits(w: GraphWriter, spec: DrafterSpec, hidden: ir.Value) -> ir.Value:
    """Logits [n, Vd] of normed states [n, H]."""
    return w.softcap(w.op.Gemm(hidden, w.weight("lm_head.weight"), transB=1), spec.logit_softcap)


def vocabulary(w: GraphWriter, spec: DrafterSpec) -> ir.Value:
    """The ids that can be drafted, [Vd]."""
    return w.constant(VOCABULARY, np.array(spec.draft_vocabulary, np.int64))


def write_outputs(w: GraphWriter, spec: DrafterSpec, ids: ir.Value, confidence: ir.Value, logits: ir.Value) -> None:
    """draft_ids [R, g], confidence_logits [R, g], and of logits [R, g, Vd] draft_logits [R, g, V]; of a drafter without
    a confidence head draft_scores [R, g, 2] too. These are of the distribution, whatever was drawn from it."""
    g = spec.draft_length
    w.output(ids, OUTPUTS[0], ["R", g], ir.DataType.INT64)
    w.output(confidence, OUTPUTS[1], ["R", g])
    scores = None if spec.confidence.enabled else _scores(w, logits)
    w.output(_over_all(w, spec, logits), OUTPUTS[2], ["R", g, spec.vocab_size])
    if scores is not None:
        w.output(scores, SCORES, ["R", g, len(SCORE_NAMES)])


def _scores(w: GraphWriter, logits: ir.Value) -> ir.Value:
    op = w.op
    best, _ = op.TopK(op.LogSoftmax(logits, axis=-1), [2], axis=-1, _outputs=2)
    first, second = op.Split(best, axis=-1, num_outputs=2, _outputs=2)
    scores: ir.Value = op.Concat(first, op.Sub(first, second), axis=-1)
    return scores


def _over_all(w: GraphWriter, spec: DrafterSpec, logits: ir.Value) -> ir.Value:
    """Draft logits over the target's vocabulary."""
    if not spec.draft_vocabulary:
        return logits
    place = w.constant(f"{VOCABULARY}.place", places(spec.draft_vocabulary, spec.vocab_size))
    logits.name = f"reduced.{logits.name}"
    expanded: ir.Value = w.op.call(expand_function(), logits, place)
    return expanded
