"""`dspark-export inspect`: what is in a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from dspark_engines.backends.onnxruntime.self_check import self_check
from dspark_engines.bundle import DrafterInfo, EngineInfo, GraphInfo, Manifest, TargetInfo, open_bundle
from dspark_export.commands.console import print_json, table_console
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import bundle_argument, json_option


@styled("inspect", "Show what a bundle holds.")
@bundle_argument
@json_option
def command(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE holds and what it was made from."""
    manifest = open_bundle(bundle).manifest
    if as_json:
        print_json(manifest.model_dump() | _machine(manifest))
        return
    console = table_console()
    for table in (_facts(manifest), _graphs(manifest), _files(manifest)):
        console.print(table)


def _machine(manifest: Manifest) -> dict[str, Any]:
    """What this machine computes of the bundle's promise, where it is one about kernels."""
    return {"self_check": self_check()._asdict()} if manifest.precision == "int8" else {}


def _facts(manifest: Manifest) -> Table:
    table = Table("", "", title="bundle", show_header=False)
    for name, value in _fact_rows(manifest):
        table.add_row(name, value)
    return table


def _fact_rows(manifest: Manifest) -> Iterator[tuple[str, str]]:
    target, drafter, limits = manifest.target, manifest.drafter, manifest.limits
    yield "created", f"{manifest.created} (schema {manifest.schema_version})"
    yield "tools", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())
    if manifest.recipe is not None:
        yield "recipe", f"{manifest.recipe.name} (sha256 {manifest.recipe.sha256[:12]}), from {manifest.recipe.source}"
    yield "target", f"{target.name}: {target.architecture}, {target.num_layers} layers, vocabulary {target.vocab_size}"
    if target.quantization is not None:
        yield "read from", target.quantization
    yield "stops on", _stops(target)
    yield "drafter", _drafter(drafter)
    for section in manifest.further_drafters:
        yield f"drafter '{section.drafter.called}'", _drafter(section.drafter)
    yield "precision", manifest.precision
    if manifest.precision == "int8":
        yield "int8 on this machine", self_check().describe()
    yield "limits", f"context {limits.context_length}, prefill chunk {limits.prefill_chunk}, slots {limits.slots}"
    for backend in manifest.backends:
        engines = ", ".join(_engine(engine) for engine in backend.engines)
        yield "engines", f"{backend.name} {backend.version}: {engines}"
    if not manifest.backends:
        yield "engines", "none: add them with dspark-export compile"


def _drafter(drafter: DrafterInfo) -> str:
    if not drafter.drafts:
        return "none: it decodes plainly"
    return (
        f"{drafter.name} ({drafter.method}): {drafter.num_layers} layers, block {drafter.block_size}, "
        f"taps {drafter.target_layer_ids}, Markov head {drafter.markov_kind} (rank {drafter.markov_rank}), "
        f"confidence head {'yes' if drafter.confidence else 'no'}"
    )


def _stops(target: TargetInfo) -> str:
    stops = [f"{stop.token} ({stop.id}, {stop.source})" for stop in target.stop_tokens]
    stops = stops or [str(index) for index in target.eos_token_ids]  # bundles of older versions
    return ", ".join(stops) or "nothing but the length"


def _engine(engine: EngineInfo) -> str:
    facts = [f"{engine.slots} slots"]
    if engine.compute_capability is not None:
        facts += [f"compute capability {engine.compute_capability}", engine.precision or ""]
    facts += [f"plugins for {', '.join(engine.plugins)}"] if engine.plugins else []
    facts += ["greedy drafts only"] if engine.greedy_drafts else []
    return f"{engine.role} ({', '.join(facts)})"


def _graphs(manifest: Manifest) -> Table:
    table = Table("graph", "inputs", "outputs", "caches", title="graphs", show_lines=True)
    for name, graph in manifest.graphs.items():
        table.add_row(name, _tensors(graph, "inputs"), _tensors(graph, "outputs"), str(len(graph.caches)))
    return table


def _tensors(graph: GraphInfo, which: str) -> str:
    return "\n".join(
        f"{tensor.name} {tensor.dtype}[{', '.join(map(str, tensor.shape))}]" for tensor in getattr(graph, which)
    )


def _files(manifest: Manifest) -> Table:
    table = Table("file", "MB", "sha256", title="files")
    for record in manifest.files:
        table.add_row(record.path, f"{record.bytes / 1e6:.1f}", record.sha256[:16])
    return table
