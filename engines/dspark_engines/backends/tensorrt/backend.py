"""Both TensorRT backends: they differ in the library that they load, and in what it can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dspark_engines.backends.base import Backend, CompiledEngine
from dspark_engines.backends.engine import Engines, VerifyEngine
from dspark_engines.backends.exported import ExportedGraphs, needed_roles, require_file
from dspark_engines.backends.options import CompileOptions, EngineOptions, EnginePrecision
from dspark_engines.backends.padded.shapes import RoleShapes, role_shapes
from dspark_engines.backends.tensorrt.flavours import RTX, TENSORRT, Flavour
from dspark_engines.bundle import Bundle, Limits, Precision, Role

ROLES: tuple[Role, ...] = ("verify", "draft", "accept")
HALF: EnginePrecision = "bf16"
OLD_HALF: EnginePrecision = "fp16"
BF16_SINCE = 8


class _TrtBackend(Backend):
    """One engine a role, with its weights inside; all shapes of a role share it."""

    kind = "builds engines for a GPU"
    supports = frozenset(knob.name for knob in fields(CompileOptions))
    flavour: Flavour

    @property
    def version(self) -> str:
        return str(self.flavour.load().__version__)

    def check_options(self, options: CompileOptions, limits: Limits, block_size: int, exported: Precision) -> None:
        self.require_float32(exported)
        from dspark_engines.backends.tensorrt.building.config import check_timing_cache
        from dspark_engines.backends.tensorrt.building.plugins import choose_plugins
        from dspark_engines.backends.tensorrt.building.target import check_precision, choose_capability

        capability = choose_capability(self.flavour, self.flavour.load(), options.compute_capability)
        check_precision(capability, options.precision or default_precision(capability))
        choose_plugins(self.flavour, capability, options.plugins)
        check_timing_cache(self.flavour, options.timing_cache)
        for role in needed_roles(ROLES, block_size):
            role_shapes(role, limits, block_size, options.token_buckets)

    def disk_bytes(self, weight_bytes: Mapping[Role, int], options: CompileOptions) -> int:
        from dspark_engines.backends.tensorrt.building.disk import disk_bytes

        return disk_bytes(weight_bytes, options.precision)

    def compile(self, exported: ExportedGraphs, output: Path, options: CompileOptions) -> list[CompiledEngine]:
        roles = needed_roles(ROLES, exported.block_size)
        sources, engines = {role: require_file(exported, role) for role in roles}, []
        limits = exported.limits
        for number, (role, source) in enumerate(sources.items()):
            share = replace(options, progress=_part(options, number, len(sources)))
            block = exported.block_size
            shapes = role_shapes(role, limits, block, options.token_buckets, block_width=exported.block_width)
            engines.append(self._build(role, source, output, shapes, share, limits.slots))
        return engines

    def _build(
        self, role: Role, source: Path, output: Path, shapes: RoleShapes, options: CompileOptions, slots: int
    ) -> CompiledEngine:
        from dspark_engines.backends.tensorrt import building

        trt, file = self.flavour.load(), f"{role}.engine"
        capability = building.choose_capability(self.flavour, trt, options.compute_capability)
        half = options.precision or default_precision(capability)
        precision: EnginePrecision = "fp32" if role == "accept" else half  # what is accepted is not rounded
        plugins = building.choose_plugins(self.flavour, capability, options.plugins)
        greedy = options.greedy_drafts and role != "verify"
        request = building.EngineRequest(role, source, output / file, shapes, precision, capability, plugins, greedy)
        ops = building.build_engine(self.flavour, trt, request, options)
        facts = (precision, capability, options.token_buckets, ops, greedy)
        return CompiledEngine(role, slots, file, source.name, "", *facts)

    @contextmanager
    def open(self, bundle: Bundle, options: EngineOptions, *, verify: VerifyEngine | None = None) -> Iterator[Engines]:
        self.refuse_shared(verify)
        self.refuse_engineless(bundle)
        info = self.find_engines(bundle)
        trt = self.flavour.load()
        from dspark_engines.backends.tensorrt.execution.open import check_machine, load_engines

        check_machine(self.flavour, trt, bundle, info)
        with load_engines(self.flavour, trt, bundle, info) as engines:
            yield engines


class TensorRtRtxBackend(_TrtBackend):
    """TensorRT-RTX: builds for any GPU that it supports, without one."""

    name = "tensorrt-rtx"
    flavour = RTX


class TensorRtBackend(_TrtBackend):
    """TensorRT: builds for the GPU of the machine."""

    name = "tensorrt"
    flavour = TENSORRT


def default_precision(capability: str) -> EnginePrecision:
    """bfloat16, which checkpoints are trained in and whose range nothing leaves; float16 on GPUs that lack it."""
    return HALF if int(capability.split(".")[0]) >= BF16_SINCE else OLD_HALF


def _part(options: CompileOptions, number: int, parts: int) -> Any:
    """Progress of one of several engines as a share of the whole."""

    def advance(done: int, total: int) -> None:
        options.progress(number * 1000 + min(1000, 1000 * done // max(1, total)), parts * 1000)

    return advance
