"""The ONNX Runtime backend on its CUDA provider."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dspark_engines.backends.base import Backend, CompiledEngine
from dspark_engines.backends.engine import Engines, NoDraftEngine, VerifyEngine
from dspark_engines.backends.exported import ExportedGraphs, needed_roles, require_file
from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.options import CompileOptions, EngineOptions, EnginePrecision
from dspark_engines.backends.padded.shapes import role_shapes
from dspark_engines.bundle import Bundle, Limits, Precision, Role

ROLES: tuple[Role, ...] = ("verify", "draft")
DEFAULT: EnginePrecision = "bf16"
"""What checkpoints are trained in, and whose range nothing leaves."""


class OnnxRuntimeCudaBackend(Backend):
    """One graph a role, for every GPU; its weights in half precision lie beside it."""

    name = "onnxruntime-cuda"
    kind = "compiles for no GPU in particular"
    supports = frozenset({"token_buckets", "greedy_drafts"})

    @property
    def version(self) -> str:
        return str(onnxruntime.__version__)

    def check_options(self, options: CompileOptions, limits: Limits, block_size: int, exported: Precision) -> None:
        self.require_float32(exported)
        self.refuse_unsupported(options)
        for role in needed_roles(ROLES, block_size):
            role_shapes(role, limits, block_size, options.token_buckets)

    def disk_bytes(self, weight_bytes: Mapping[Role, int], options: CompileOptions) -> int:
        return 0 if options.precision == "fp32" else sum(weight_bytes.values()) // 2

    def compile(self, exported: ExportedGraphs, output: Path, options: CompileOptions) -> list[CompiledEngine]:
        from dspark_engines.backends.onnxruntime_cuda.compile import compile_graph  # needs the extra [export]

        limits, precision, engines = exported.limits, options.precision or DEFAULT, []
        weights = "onnx" if precision == "fp32" else f"engines/{self.name}"
        roles = needed_roles(ROLES, exported.block_size)
        for number, role in enumerate(roles):
            source = require_file(exported, role)
            block = exported.block_size
            shapes = role_shapes(role, limits, block, options.token_buckets, block_width=exported.block_width)
            greedy = options.greedy_drafts and role == "draft"
            file = f"{role}.onnx"
            compile_graph(source, output / file, role, shapes.capacity, precision, greedy=greedy)
            options.progress(number + 1, len(roles))
            facts = (precision, None, options.token_buckets, (), greedy)
            engines.append(CompiledEngine(role, limits.slots, file, source.name, weights, *facts))
        return engines

    @contextmanager
    def open(self, bundle: Bundle, options: EngineOptions, *, verify: VerifyEngine | None = None) -> Iterator[Engines]:
        self.refuse_shared(verify)
        self.refuse_engineless(bundle)
        from dspark_engines.backends.onnxruntime_cuda.checking import check_machine
        from dspark_engines.backends.onnxruntime_cuda.opening import open_engine

        del options  # the host only launches
        info = self.find_engines(bundle)
        check_machine(self.name, bundle, info)
        with ExitStack() as stack:
            opened: dict[Role, Any] = {
                engine.role: stack.enter_context(open_engine(bundle, engine)) for engine in info.engines
            }
            engines = Engines(opened["verify"], opened.get("draft") or NoDraftEngine())
            engines.verify.preload(1)
            engines.draft.preload(1)
            yield engines
