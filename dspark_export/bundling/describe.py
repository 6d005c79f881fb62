"""Fill in the manifest from what was read and written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir

from dspark_engines.backends import Backend, CompiledEngine
from dspark_engines.bundle import (
    MANIFEST,
    NO_DRAFTER,
    BackendInfo,
    DrafterInfo,
    DrafterSection,
    DraftVocabulary,
    EngineInfo,
    FileRecord,
    GraphInfo,
    GraphName,
    Manifest,
    RecipeInfo,
    Role,
    TargetInfo,
    TensorInfo,
    record_file,
    sha256_file,
)
from dspark_engines.bundle.caches import read_caches
from dspark_engines.bundle.vocabulary import vocabulary_file
from dspark_engines.progress import Step
from dspark_export.bundling.export import graph_suffix
from dspark_export.bundling.pair import Pair
from dspark_export.bundling.plan import BuildPlan
from dspark_export.checkpoints import DrafterCheckpoint, DrafterSpec, TargetCheckpoint
from dspark_export.checkpoints.seams import get_method

GRAPHS: tuple[GraphName, ...] = ("target", "drafter", "accept")
TOOLS = ("dspark-export", "onnx", "onnx-ir", "onnxscript", "numpy", "gguf", "safetensors", "tokenizers")


def describe_bundle(
    pair: Pair,
    root: Path,
    plan: BuildPlan,
    graphs: dict[GraphName, GraphInfo],
    backends: list[BackendInfo],
    further: list[DrafterSection],
    step: Step,
) -> Manifest:
    """The manifest of everything under `root`; hashes are taken here."""
    return Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tools={name: version(name) for name in TOOLS},
        precision=plan.precision,
        limits=plan.limits,
        speculation=plan.speculation,
        target=_target(pair),
        drafter=describe_drafter(pair, 0, plan) if pair.drafters else NO_DRAFTER,
        further_drafters=further,
        graphs=graphs,
        backends=backends,
        files=record_tree(root, step),
        recipe=_recipe(plan.recipe),
    )


def describe_backend(backend: Backend, compiled: Sequence[CompiledEngine], root: Path) -> BackendInfo:
    """The record of freshly compiled engines under `root`/engines/NAME."""
    return BackendInfo(name=backend.name, version=backend.version, engines=describe_engines(backend, compiled, root))


def describe_engines(backend: Backend, compiled: Sequence[CompiledEngine], root: Path) -> list[EngineInfo]:
    """The same of engines alone."""
    return [
        EngineInfo(
            role=engine.role,
            slots=engine.slots,
            path=f"engines/{backend.name}/{engine.file}",
            weights=engine.weights,
            built_from=record_file(root / "onnx" / engine.source, root),
            precision=engine.precision,
            compute_capability=engine.compute_capability,
            token_buckets=list(engine.token_buckets),
            plugins=list(engine.plugins),
            greedy_drafts=engine.greedy_drafts,
        )
        for engine in compiled
    ]


def describe_graphs(root: Path, suffix: str = "") -> dict[GraphName, GraphInfo]:
    """All exported graphs under `root`; with a `suffix` those of a further drafter."""
    files = {name: f"{name}{suffix}" for name in GRAPHS}
    return {name: describe_graph(root, file) for name, file in files.items() if (root / f"onnx/{file}.onnx").exists()}


def describe_graph(root: Path, name: str) -> GraphInfo:
    """Inputs, outputs and caches of an exported graph."""
    path = root / "onnx" / f"{name}.onnx"
    model = ir.load(path)
    graph = model.graph
    caches = read_caches(model.metadata_props, [value.name or "" for value in graph.inputs])
    names = {name for cache in caches for name in cache}
    return GraphInfo(
        path=path.relative_to(root).as_posix(),
        inputs=[_tensor(value) for value in graph.inputs if value.name not in names],
        outputs=[_tensor(value) for value in graph.outputs if value.name not in names],
        caches=caches,
    )


def graph_bytes(folder: Path) -> dict[Role, int]:
    """Bytes of the weights that each exported graph in `folder` computes with, shared ones included."""
    graphs: dict[Role, str] = {"verify": "target.onnx", "draft": "drafter.onnx"}
    return {
        role: sum(map(_bytes, ir.load(folder / name).graph.initializers.values()))
        for role, name in graphs.items()
        if (folder / name).exists()
    }


def record_tree(root: Path, step: Step) -> list[FileRecord]:
    """Every file under `root` but the manifest."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != MANIFEST)
    total, done = sum(path.stat().st_size for path in files), 0
    records = []
    for path in files:
        records.append(record_file(path, root))
        done += records[-1].bytes
        step(done, total)
    return records


def _bytes(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes


def _tensor(value: ir.Value) -> TensorInfo:
    assert value.shape is not None, "exported graphs declare their interface"
    assert value.dtype is not None, "exported graphs declare their interface"
    shape = [dim if isinstance(dim, int) else str(dim.value) for dim in value.shape]
    return TensorInfo(name=value.name or "", dtype=value.dtype.name.lower(), shape=shape)


def _target(pair: Pair) -> TargetInfo:
    checkpoint, spec, text = pair.target, pair.target.spec, pair.target.text
    return TargetInfo(
        name=_name(checkpoint),
        files=_identity(checkpoint.files),
        architecture=spec.architecture,
        quantization=checkpoint.quantization or None,
        vocab_size=spec.vocab_size,
        hidden_size=spec.shape.hidden_size,
        num_layers=spec.shape.num_layers,
        eos_token_ids=[stop.id for stop in text.stop_tokens],
        bos_token_id=spec.bos_token_id,
        add_bos=text.add_bos,
        add_eos=text.add_eos,
        split_special_tokens=text.split_special_tokens,
        clean_up_spaces=text.clean_up_spaces,
        stop_tokens=list(text.stop_tokens),
        source=str(checkpoint.path.resolve()),
        hub=checkpoint.origin or None,
    )


def describe_drafter(pair: Pair, number: int, plan: BuildPlan) -> DrafterInfo:
    """The record of one of its drafters."""
    label, checkpoint = pair.drafters[number]
    spec, method = checkpoint.spec, get_method(checkpoint.spec.method)
    return DrafterInfo(
        name=_name(checkpoint),
        label=label,
        files=_identity(checkpoint.files),
        block_size=spec.draft_length,
        anchor=spec.anchor,
        target_layer_ids=list(spec.target_layer_ids),
        feature_size=pair.feature_size,
        num_layers=spec.shape.num_layers,
        method=spec.method,
        method_facts=method.describe(spec),
        markov_kind=spec.markov.kind,
        markov_rank=spec.markov.rank,
        confidence=spec.confidence.enabled,
        scores=list(method.scores(spec)),
        draft_vocabulary=_vocabulary(spec, plan, graph_suffix(pair, number)),
        source=str(checkpoint.path.resolve()),
        hub=checkpoint.origin or None,
    )


def _vocabulary(spec: DrafterSpec, plan: BuildPlan, suffix: str) -> DraftVocabulary | None:
    size = len(spec.draft_vocabulary)
    if not size:
        return None
    own = spec.draft_vocabulary != tuple(sorted(plan.draft_vocabulary))
    coverage = None if own else plan.coverage
    return DraftVocabulary(path=vocabulary_file(suffix), size=size, own=own, coverage=coverage)


def _recipe(path: Path | None) -> RecipeInfo | None:
    return None if path is None else RecipeInfo(name=path.name, sha256=sha256_file(path), source=str(path.resolve()))


def _name(checkpoint: TargetCheckpoint | DrafterCheckpoint) -> str:
    """That of its file or directory; on the Hub, that of its repository."""
    return checkpoint.origin.partition("@")[0].rpartition("/")[2] or checkpoint.path.name


def _identity(files: Sequence[Path]) -> list[FileRecord]:
    return [record_file(path, path.parent) for path in files]
