"""Write onnx/ and tokenizer/ of a bundle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dspark_engines.arrays import Floats
from dspark_engines.bundle import save_vocabulary
from dspark_engines.errors import CheckpointError, DsparkError
from dspark_engines.progress import Reporter
from dspark_engines.text import TEMPLATE_FILE, TOKENIZER_FILE, TOKENS_FILE
from dspark_export.bundling.pair import NamedDrafter, Pair
from dspark_export.bundling.plan import BuildPlan
from dspark_export.checkpoints import DrafterCheckpoint
from dspark_export.checkpoints.seams import get_family, get_method
from dspark_export.graphs import (
    build_accept_graph,
    head_spec,
    save_graph,
    take_features,
)
from dspark_export.graphs.drafter import HEAD_WEIGHTS
from dspark_export.graphs.writer import lazy
from dspark_export.quantization import Int8Weight, Plans, plan_drafter, plan_target, quantize_graph
from dspark_export.quantization.weights import lazy_tensor

EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"
Tensors = Mapping[str, ir.ExternalTensor]


@dataclass(frozen=True)
class ExportedTarget:
    """What a drafter's graph takes from its target's: the tensors in its file and, for int8, what was measured."""

    written: Tensors
    measured: tuple[Plans, Floats] | None
    """Plans of its layers, and the features [n, L*H] of the tokens that they were measured on."""


def export_pair(pair: Pair, root: Path, plan: BuildPlan, reporter: Reporter) -> None:
    """Export both graphs and the tokenizer into `root`."""
    with _reading_weights():
        export_graphs(pair, root / "onnx", plan, reporter)
    export_text(pair, root / "tokenizer")


@contextmanager
def _reading_weights() -> Iterator[None]:
    """onnx-ir wraps what a weight raised while it was read; the user needs the reason."""
    try:
        yield
    except ir.serde.SerdeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, DsparkError):
            cause = cause.__cause__
        raise (cause or error) from None


def export_graphs(pair: Pair, folder: Path, plan: BuildPlan, reporter: Reporter) -> None:
    """target.onnx, and with a drafter drafter.onnx with their weights, accept.onnx without any.

    Tables that the drafter lacks are shared, not copied.
    """
    folder.mkdir(parents=True)
    target = _export_target(pair, folder, plan, reporter)
    for number, named in enumerate(pair.drafters):
        _export_drafter(pair, named, graph_suffix(pair, number), target, folder, plan, reporter)


def graph_suffix(pair: Pair, number: int) -> str:
    """What the names of a drafter's files have behind them: nothing for the one that the bundle is known by."""
    return f".{pair.drafters[number].name}" if number else ""


def _positions(pair: Pair, plan: BuildPlan) -> int:
    """What rotary tables cover: a whole context, and the block that is drafted at its end."""
    return plan.limits.context_length + pair.block_width


def _export_target(pair: Pair, folder: Path, plan: BuildPlan, reporter: Reporter) -> ExportedTarget:
    """target.onnx."""
    target = pair.target.spec

    def target_graph() -> ir.Model:
        family = get_family(target.architecture)
        graph: ir.Model = family.build_graph(target, pair.target.weights, pair.taps, _positions(pair, plan))
        return graph

    graph, measured = target_graph(), None
    if plan.precision == "int8":
        step = reporter.step("measuring the target's layers")
        measured = plan_target(target_graph(), target.vocab_size, step)
        quantize_graph(graph, measured[0], keep=kept(plan, "target", measured[0]))
    written = save_graph(graph, folder / "target.onnx", reporter.step("exporting the target"))
    return ExportedTarget(written, measured)


def _export_drafter(
    pair: Pair,
    named: NamedDrafter,
    suffix: str,
    exported: ExportedTarget,
    folder: Path,
    plan: BuildPlan,
    reporter: Reporter,
) -> None:
    """drafter.onnx and accept.onnx, after the target's graph."""
    target, checkpoint, drafter = pair.target.spec, named.checkpoint, named.checkpoint.spec

    def drafter_graph(tables: Mapping[str, ir.TensorProtocol]) -> ir.Model:
        method = get_method(drafter.method)
        graph: ir.Model = method.build_graph(drafter, checkpoint.weights, tables, _positions(pair, plan))
        return take_features(graph, drafter.target_layer_ids, pair.taps, target.shape.hidden_size)

    graph = drafter_graph(_tables(pair, checkpoint, exported.written))
    if exported.measured is not None:
        plans, features = exported.measured
        head = _int8_head(pair, checkpoint, exported.written)
        shared = {HEAD: plans[_head_name(pair)]} if head else {}
        step = reporter.step(f"measuring the layers of {named.name}")
        trace = drafter_graph(_tables(pair, checkpoint, {}))
        plans = plan_drafter(trace, target.vocab_size, drafter.draft_length, features, shared, step)
        keep = kept(plan, "drafter", plans)
        quantize_graph(graph, plans, head=head_spec(drafter), keep=keep, shared=head)
    save_graph(graph, folder / f"drafter{suffix}.onnx", reporter.step(f"exporting {named.name}"))
    save_graph(build_accept_graph(target.vocab_size, drafter.draft_length), folder / f"accept{suffix}.onnx")
    if drafter.draft_vocabulary:
        save_vocabulary(np.array(drafter.draft_vocabulary), folder.parent, suffix)


def kept(plan: BuildPlan, graph: str, plans: Plans) -> set[str]:
    """Weights of one graph that stay in float32. Raises `CheckpointError` for a layer that there is none of."""
    names = [*plans, *([HEAD_WEIGHTS["w2"]] if graph == "drafter" else [])]
    prefix, layers = f"{graph}.", {name.removesuffix(".weight"): name for name in names}
    wanted = [name.removeprefix(prefix) for name in plan.keep if name.startswith(prefix)]
    nowhere = [name for name in plan.keep if not name.startswith(("target.", "drafter."))]
    if nowhere:
        raise CheckpointError(f"--keep-fp32 {nowhere[0]}: which graph?", hint="begin it with 'target.' or 'drafter.'")
    for name in wanted:
        if name not in layers:
            raise CheckpointError(
                f"--keep-fp32 {prefix}{name}: the {graph} has no such layer", hint=f"one of: {', '.join(layers)}"
            )
    return {layers[name] for name in wanted}


def _tables(pair: Pair, drafter: DrafterCheckpoint, written: Tensors) -> dict[str, ir.TensorProtocol]:
    """Embedding and output table for a drafter that has none, as the target's graph has stored them."""
    weights, tables = pair.target.weights, {EMBEDDING: EMBEDDING, HEAD: _head_name(pair)}
    missing = {name: stored for name, stored in tables.items() if name not in drafter.weights}
    found: dict[str, ir.TensorProtocol] = {
        name: written.get(stored) or lazy(stored, weights.shapes[stored], partial(weights.__getitem__, stored))
        for name, stored in missing.items()
    }
    kept = list(drafter.spec.draft_vocabulary)
    if kept and HEAD in found:
        shape = (len(kept), weights.shapes[missing[HEAD]][1])
        found[HEAD] = lazy(HEAD, shape, lambda: weights[missing[HEAD]][kept])
    return found


def _int8_head(pair: Pair, drafter: DrafterCheckpoint, written: Tensors) -> dict[str, Int8Weight]:
    """The target's quantised output table, unless the drafter has its own."""
    if drafter.spec.own_head:
        return {}
    int8, scale = (written.get(f"{_head_name(pair)}.{kind}") for kind in Int8Weight._fields)
    if not int8 or not scale:
        return {}
    kept = list(drafter.spec.draft_vocabulary)
    return {HEAD: _columns(Int8Weight(int8, scale), kept) if kept else Int8Weight(int8, scale)}


def _columns(weight: Int8Weight, kept: list[int]) -> Int8Weight:
    """Those of a quantised weight [K, N]: the same numbers, written once more."""
    int8, scale, rows = weight.int8, weight.scale, weight.int8.numpy().shape[0]
    return Int8Weight(
        lazy_tensor(f"{HEAD}.int8", int8.dtype, (rows, len(kept)), lambda: int8.numpy()[:, kept]),
        lazy_tensor(f"{HEAD}.scale", scale.dtype, (len(kept),), lambda: scale.numpy()[kept]),
    )


def _head_name(pair: Pair) -> str:
    return EMBEDDING if pair.target.spec.tied_embeddings else HEAD


def export_text(pair: Pair, folder: Path) -> None:
    """tokenizer.json, the names of its tokens and, where the model has one, its chat template."""
    text = pair.target.text
    folder.mkdir(parents=True)
    (folder / TOKENIZER_FILE).write_text(text.tokenizer_json, "utf-8")
    (folder / TOKENS_FILE).write_text(json.dumps(dict(text.special_tokens), ensure_ascii=False, indent=1), "utf-8")
    if text.chat_template is not None:
        (folder / TEMPLATE_FILE).write_bytes(text.chat_template.encode())  # line ends as they are
