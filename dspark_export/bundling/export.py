"""Write onnx/ and tokenizer/ of a bundle."""

from __future__ import annotations

from pathlib import Path

from dspark_engines.bundle import Limits
from dspark_engines.text import TEMPLATE_FILE, TOKENIZER_FILE
from dspark_export.bundling.plan import Pair
from dspark_export.graphs import build_drafter_graph, build_target_graph, save_graph
from dspark_export.progress import Reporter

TABLES = ("embed_tokens.weight", "lm_head.weight")


def export_pair(pair: Pair, root: Path, limits: Limits, reporter: Reporter) -> None:
    """Export both graphs and the tokenizer into `root`."""
    export_graphs(pair, root / "onnx", limits, reporter)
    export_text(pair, root / "tokenizer")


def export_graphs(pair: Pair, folder: Path, limits: Limits, reporter: Reporter) -> None:
    """target.onnx and drafter.onnx with their weights; tables that the drafter lacks are shared, not copied."""
    folder.mkdir(parents=True)
    target, drafter = pair.target, pair.drafter
    positions = limits.context_length + drafter.spec.block_size
    graph = build_target_graph(target.spec, target.weights, drafter.spec.target_layer_ids, positions)
    written = save_graph(graph, folder / "target.onnx", reporter.step("exporting the target"))
    embedding, head = (written.get(name, written[TABLES[0]]) for name in TABLES)
    shared = {name: table for name, table in zip(TABLES, (embedding, head), strict=True) if name not in drafter.weights}
    graph = build_drafter_graph(drafter.spec, drafter.weights, shared, positions)
    save_graph(graph, folder / "drafter.onnx", reporter.step("exporting the drafter"))


def export_text(pair: Pair, folder: Path) -> None:
    """tokenizer.json and, where the model has one, its chat template."""
    folder.mkdir(parents=True)
    (folder / TOKENIZER_FILE).write_text(pair.target.tokenizer_json, "utf-8")
    if pair.target.chat_template is not None:
        (folder / TEMPLATE_FILE).write_text(pair.target.chat_template, "utf-8")
