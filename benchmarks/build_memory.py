"""What exporting and building a large drafter takes: a synthetic one of Qwen3-4B's size, random weights.

python benchmarks/build_memory.py FOLDER [--backend-capability 8.9] [--hidden 2560 --layers 5 --vocab 151936 --rank 256]

Needs about four times the drafter's half-precision size in FOLDER (12 GB by default). Each phase is a process of its
own, so that its peak is its own.
"""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from zlib import crc32

import click
import numpy as np

from dspark_engines.backends import CompileOptions
from dspark_engines.backends.padded.shapes import role_shapes
from dspark_engines.backends.tensorrt.building import EngineRequest, build_engine
from dspark_engines.backends.tensorrt.flavours import RTX
from dspark_engines.bundle import Limits
from dspark_export.checkpoints import (
    ConfidenceSpec,
    DecoderShape,
    DrafterSpec,
    LayerSpec,
    MarkovSpec,
    RopeSpec,
    Weights,
)
from dspark_export.checkpoints.expected import drafter_tensors
from dspark_export.checkpoints.tensors import Array, Entry, Shape, TensorSource
from dspark_export.graphs import build_drafter_graph, save_graph

HALF_BYTES = 2


class RandomSource(TensorSource):
    """Weights made when asked for, of a size that keeps activations near one."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def load(self, name: str) -> Array:
        shape = self._shapes[name]
        values = np.random.default_rng(crc32(name.encode())).standard_normal(shape, np.float32)
        values *= 0.1 if "norm" in name else shape[-1] ** -0.5
        if "norm" in name:
            values += 1
        return values


@dataclass(frozen=True)
class Job:
    """Where, how large, for what."""

    folder: Path
    spec: DrafterSpec
    limits: Limits
    capability: str

    @property
    def weight_bytes(self) -> int:
        """All weights in half precision."""
        return HALF_BYTES * sum(int(np.prod(shape)) for shape in tensors(self.spec).values())


def tensors(spec: DrafterSpec) -> dict[str, Shape]:
    """Every tensor of the drafter, tables included."""
    tables = dict.fromkeys(("embed_tokens.weight", "lm_head.weight"), (spec.vocab_size, spec.shape.hidden_size))
    return {**drafter_tensors(spec), **tables}


def export(job: Job) -> int:
    """Write drafter.onnx; returns its bytes."""
    shapes = tensors(job.spec)
    weights = Weights(job.folder, RandomSource(shapes), {name: Entry(name) for name in shapes})
    model = build_drafter_graph(job.spec, weights, {}, job.limits.context_length + job.spec.block_size)
    save_graph(model, job.folder / "drafter.onnx")
    return (job.folder / "drafter.onnx.data").stat().st_size


def build(job: Job) -> int:
    """Write the engine; returns its bytes."""
    shapes = role_shapes("draft", job.limits, job.spec.block_size)
    engine = job.folder / "draft.engine"
    request = EngineRequest("draft", job.folder / "drafter.onnx", engine, shapes, "bf16", job.capability)
    build_engine(RTX, RTX.load(), request, CompileOptions(progress=lambda done, total: None))
    return engine.stat().st_size


def measured(phase: Callable[[Job], int], job: Job) -> tuple[int, int, float]:
    """(bytes written, peak resident bytes, seconds) of a phase."""
    started = time.perf_counter()
    written = phase(job)
    return written, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.perf_counter() - started


@click.command(context_settings={"show_default": True})
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--compute-capability", default="8.9")
@click.option("--hidden", default=2560)
@click.option("--layers", default=5)
@click.option("--vocab", default=151_936)
@click.option("--rank", default=256)
@click.option("--slots", default=1, help="Most requests at once; a profile each power of two.")
@click.option("--limit", default=2.5, help="Exit code 1 when a peak is more than so many times the weights.")
def main(
    folder: Path, compute_capability: str, hidden: int, layers: int, vocab: int, rank: int, slots: int, limit: float
) -> int:
    """Export and build in FOLDER, which is emptied afterwards, and say what each phase took."""
    layer = LayerSpec(
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        intermediate_size=19 * hidden // 5,
        rope=RopeSpec(1e6),
        qk_norm=True,
    )
    shape = DecoderShape(hidden_size=hidden, rms_norm_eps=1e-6, layers=(layer,) * layers)
    taps = (1, 9, 17, 25, 33)
    spec = DrafterSpec(
        shape=shape,
        vocab_size=vocab,
        block_size=7,
        mask_token_id=vocab - 1,
        target_layer_ids=taps,
        num_target_layers=36,
        markov=MarkovSpec("vanilla", rank),
        confidence=ConfidenceSpec(True, True),
        own_embedding=True,
        own_head=True,
    )
    limits = Limits(context_length=2048, prefill_chunk=256, slots=slots)
    folder.mkdir(parents=True)
    job = Job(folder, spec, limits, compute_capability)
    click.echo(f"weights: {job.weight_bytes / 1e9:.2f} GB in half precision")
    worst = 0.0
    try:
        for phase in (export, build):
            with get_context("spawn").Pool(1) as pool:
                written, peak, seconds = pool.apply(measured, (phase, job))
            worst = max(worst, peak / job.weight_bytes)
            times = f"{peak / job.weight_bytes:.2f} x weights"
            click.echo(f"{phase.__name__}: {written / 1e9:.2f} GB, peak {peak / 1e9:.2f} GB ({times}), {seconds:.0f} s")
    finally:
        shutil.rmtree(folder)
    return 0 if worst <= limit else 1


if __name__ == "__main__":
    raise SystemExit(main(standalone_mode=False))
