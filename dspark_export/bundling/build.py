"""From checkpoints to a bundle, atomically: `build`, `export` (without engines) and `compile` (engines later)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dspark_engines.backends import Backend, CompileOptions, ExportedGraphs, get_backend
from dspark_engines.backends.exported import chain_methods
from dspark_engines.bundle import (
    MANIFEST,
    BackendInfo,
    Bundle,
    DrafterSection,
    FileRecord,
    Manifest,
    atomic_directory,
    check_folder,
    check_room,
    open_bundle,
    output_error,
    remove_leftovers,
    replace_file,
)
from dspark_engines.errors import OutputError
from dspark_engines.progress import Reporter
from dspark_export.bundling.describe import (
    describe_backend,
    describe_bundle,
    describe_drafter,
    describe_engines,
    describe_graphs,
    graph_bytes,
    record_tree,
)
from dspark_export.bundling.export import export_pair, graph_suffix
from dspark_export.bundling.pair import Pair
from dspark_export.bundling.plan import BuildPlan, open_pair


def build_bundle(plan: BuildPlan, reporter: Reporter) -> Manifest:
    """Export, compile unless `plan.backend` is None, hash, rename. Nothing is left behind on failure."""
    reporter.step("reading the checkpoints")
    backend = None if plan.backend is None else get_backend(plan.backend)
    remove_leftovers(plan.output)  # before it is asked whether there is room
    pair = open_pair(plan)
    if backend is not None:
        backend.refuse_several([named.name for named in pair.drafters])
        backend.refuse_chains(pair.chains)
        backend.check_options(plan.options, plan.limits, pair.block_size, plan.precision)
    with atomic_directory(plan.output) as root:
        export_pair(pair, root, plan, reporter)
        graphs = describe_graphs(root)
        exported = ExportedGraphs(
            root=root,
            graphs=graphs,
            limits=plan.limits,
            block_size=pair.block_size,
            block_width=pair.block_width,
            precision=plan.precision,
        )
        backends = [] if backend is None else [_compile(backend, exported, plan, reporter)]
        further = [_further(pair, number, exported, backend, plan) for number in range(1, len(pair.drafters))]
        manifest = describe_bundle(pair, root, plan, graphs, backends, further, reporter.step("hashing"))
        write_manifest(manifest, root)
    return manifest


def _further(
    pair: Pair, number: int, exported: ExportedGraphs, backend: Backend | None, plan: BuildPlan
) -> DrafterSection:
    """Engines of a further drafter, and the record of it."""
    info = describe_drafter(pair, number, plan)
    section = DrafterSection(
        drafter=info, graphs=describe_graphs(exported.root, graph_suffix(pair, number)), engines={}
    )
    if backend is None:
        return section
    folder = exported.root / "engines" / backend.name
    return _with_engines(section, backend, exported, folder, plan.options)


def _with_engines(
    section: DrafterSection, backend: Backend, exported: ExportedGraphs, folder: Path, options: CompileOptions
) -> DrafterSection:
    """`section` of a bundle whose graphs are `exported`, its engines compiled into `folder`."""
    its_own = replace(exported, graphs=section.graphs, block_size=section.drafter.block_size)
    compiled = backend.compile_drafter(its_own, folder, options, section.drafter.called)
    engines = describe_engines(backend, compiled, exported.root)
    return section.model_copy(update={"engines": {**section.engines, backend.name: engines}})


def compile_bundle(
    path: Path, backend_name: str, reporter: Reporter, *, overwrite: bool, options: CompileOptions | None = None
) -> Manifest:
    """Add the engines of one backend to an exported bundle. Raises `OutputError` when they are there."""
    bundle, backend = open_bundle(path), get_backend(backend_name)
    if any(info.name == backend.name for info in bundle.manifest.backends) and not overwrite:
        raise OutputError(
            f"{path}: already holds engines of backend '{backend.name}'", hint="pass --overwrite to replace them"
        )
    options = options or CompileOptions()
    exported = ExportedGraphs.of_bundle(bundle)
    backend.refuse_several(bundle.drafters)
    backend.refuse_chains(chain_methods(bundle.manifest))
    backend.check_options(options, exported.limits, exported.block_size, exported.precision)
    folder = path / "engines" / backend.name
    remove_leftovers(folder)
    check_folder(path, path)  # for the manifest
    check_room(folder, backend.disk_bytes(graph_bytes(path / "onnx"), options))
    step = reporter.step(f"compiling for {backend.name}")
    with atomic_directory(folder) as partial:
        compiled = backend.compile(exported, partial, replace(options, progress=step))
        sections = [
            _with_engines(section, backend, exported, partial, options) for section in bundle.manifest.further_drafters
        ]
        step(1, 1)
        records = record_tree(partial, reporter.step("hashing"))
    manifest = _with_backend(bundle, describe_backend(backend, compiled, path), records)
    manifest = manifest.model_copy(update={"further_drafters": sections})
    try:
        write_manifest(manifest, path)
    except OSError as error:
        raise output_error(error, path) from error
    return manifest


def write_manifest(manifest: Manifest, root: Path) -> None:
    """Write manifest.json in one rename. Raises `OSError`."""
    replace_file(root / MANIFEST, (manifest.model_dump_json(indent=2) + "\n").encode())


def _compile(backend: Backend, exported: ExportedGraphs, plan: BuildPlan, reporter: Reporter) -> BackendInfo:
    step = reporter.step(f"compiling for {backend.name}")
    folder = exported.root / "engines" / backend.name
    folder.mkdir(parents=True)
    compiled = backend.compile(exported, folder, replace(plan.options, progress=step))
    step(1, 1)
    return describe_backend(backend, compiled, exported.root)


def _with_backend(bundle: Bundle, info: BackendInfo, records: list[FileRecord]) -> Manifest:
    """The manifest with one backend's engines put in or replaced; what else it vouches for stays as it was."""
    prefix = f"engines/{info.name}/"
    others = [backend for backend in bundle.manifest.backends if backend.name != info.name]
    kept = [record for record in bundle.manifest.files if not record.path.startswith(prefix)]
    new = [record.model_copy(update={"path": prefix + record.path}) for record in records]
    files = sorted([*kept, *new], key=lambda record: record.path)
    return bundle.manifest.model_copy(update={"backends": [*others, info], "files": files})
