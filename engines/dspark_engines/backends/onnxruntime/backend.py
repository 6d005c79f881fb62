"""The ONNX Runtime backend (CPU provider)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dspark_engines.backends.base import Backend, CompiledEngine
from dspark_engines.backends.engine import Engines, VerifyEngine
from dspark_engines.backends.engineless import engineless
from dspark_engines.backends.exported import ExportedGraphs, needed_roles, reads_text, require_file, role_caches
from dspark_engines.backends.onnxruntime.buckets import Buckets
from dspark_engines.backends.onnxruntime.engines import OrtDraftEngine, OrtVerifyEngine, role_outputs
from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.program import OrtProgram
from dspark_engines.backends.onnxruntime.self_check import require_exact_integers
from dspark_engines.backends.onnxruntime.session import open_session
from dspark_engines.backends.options import CompileOptions, EngineOptions
from dspark_engines.bundle import Bundle, EngineInfo, Limits, Precision, Role, load_vocabulary, widest_block
from dspark_engines.errors import BackendError

ROLES: tuple[Role, ...] = ("verify", "draft")


class OnnxRuntimeBackend(Backend):
    """One engine file a role and bucket of rows; weights stay in onnx/ and are mapped from there."""

    name = "onnxruntime"
    kind = "runs on the CPU"
    own_engines = True
    several_drafters = True
    chains = True

    @property
    def version(self) -> str:
        return str(onnxruntime.__version__)

    def check_options(self, options: CompileOptions, limits: Limits, block_size: int, exported: Precision) -> None:
        if options.precision not in (None, "fp32"):
            raise BackendError(
                f"backend '{self.name}' has no engines in {options.precision}", hint="leave --engine-precision out"
            )
        self.refuse_unsupported(options)

    def compile(self, exported: ExportedGraphs, output: Path, options: CompileOptions) -> list[CompiledEngine]:
        roles = needed_roles(ROLES, exported.block_size)
        return [engine for role in roles for engine in _compile_role(role, exported, output)]

    def compile_drafter(
        self, exported: ExportedGraphs, output: Path, options: CompileOptions, name: str
    ) -> list[CompiledEngine]:
        return _compile_role("draft", exported, output, f".{name}")

    @contextmanager
    def open(self, bundle: Bundle, options: EngineOptions, *, verify: VerifyEngine | None = None) -> Iterator[Engines]:
        info = self.find_engines(bundle)
        if bundle.manifest.precision == "int8":
            require_exact_integers(bundle)
        capacity = bundle.manifest.limits.context_length + widest_block(bundle.stored)  # contract of the ops

        def load(engine: EngineInfo) -> OrtProgram:
            session, caches = open_session(bundle, engine, options), role_caches(bundle, engine.role)
            return OrtProgram(session, role_outputs(bundle, engine.role), caches, capacity)

        roles: dict[Role, dict[int, Callable[[], OrtProgram]]] = {"verify": {}, "draft": {}}
        for engine in info.engines:
            roles[engine.role][engine.slots] = partial(load, engine)
        draft = engineless(bundle)
        if roles["draft"]:
            draft = OrtDraftEngine(Buckets(roles["draft"]), *load_vocabulary(bundle), reads_text=reads_text(bundle))
        engines = Engines(verify or OrtVerifyEngine(Buckets(roles["verify"])), draft)
        engines.verify.preload(1)
        engines.draft.preload(1)
        yield engines


def _compile_role(role: Role, exported: ExportedGraphs, output: Path, suffix: str = "") -> list[CompiledEngine]:
    from dspark_engines.backends.onnxruntime.compile import compile_graph  # needs the extra [export]

    source, engines = require_file(exported, role), []
    for slots in bucket_sizes(exported.limits.slots):
        file = f"{role}{suffix}.{slots}.onnx"
        compile_graph(source, output / file, slots=slots)
        engines.append(CompiledEngine(role, slots, file, source.name))
    return engines


def bucket_sizes(slots: int) -> list[int]:
    """Rows of the programs that serve up to `slots` requests: powers of two, and `slots` itself."""
    return sorted({min(1 << power, slots) for power in range(slots.bit_length() + 1)})
