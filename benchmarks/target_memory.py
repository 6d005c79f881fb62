"""What exporting a large target takes: a synthetic one of Qwen3-8B's sizes, random weights in bfloat16 shards.

    python benchmarks/target_memory.py FOLDER [--layers 36] [--hidden 4096 --vocab 151936 …]

Needs three times the target's half-precision size in FOLDER (49 GB by default), which is emptied afterwards. The export
is a process of its own, so that its peak is its own; pages of the mapped shards count, though the system may take them
back at any time. Beside its seconds stand those of writing as many bytes into the same folder, synced.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import click
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from dspark_export.checkpoints import DecoderShape, LayerSpec, RopeSpec, TargetSpec
from dspark_export.checkpoints.config_file import decoder_keys, write_json
from dspark_export.checkpoints.dialects.hugging_face import read_hf_target
from dspark_export.checkpoints.expected import target_tensors
from dspark_export.checkpoints.seams import get_family
from dspark_export.graphs import save_graph
from exit_code import exit_code

POSITIONS, FLOAT_BYTES, CHUNK = 2048, 4, 64 << 20
TAPS = (0, 1)
GB = 1e9


def target_spec(layers: int, hidden: int, inner: int, vocab: int) -> TargetSpec:
    """Qwen3-8B, but for the sizes given."""
    layer = LayerSpec(
        num_heads=hidden // 128,
        num_kv_heads=8,
        head_dim=128,
        intermediate_size=inner,
        rope=RopeSpec(1e6),
        qk_norm=True,
    )
    shape = DecoderShape(hidden_size=hidden, rms_norm_eps=1e-6, layers=(layer,) * layers)
    return TargetSpec("qwen3", shape, vocab, 40960, False, (vocab - 1,), None)


def write_target(folder: Path, spec: TargetSpec) -> None:
    """config.json, a shard for the tables, one for every layer, and the index."""
    keys = {"architectures": ["Qwen3ForCausalLM"], "vocab_size": spec.vocab_size, "eos_token_id": spec.vocab_size - 1}
    write_json(folder / "config.json", decoder_keys(spec.shape) | keys | {"max_position_embeddings": 40960})
    shards: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, size in target_tensors(spec).items():
        parts = name.split(".")
        shard = f"layer-{parts[1]}.safetensors" if parts[0] == "layers" else "tables.safetensors"
        shards.setdefault(shard, {})[name if name == "lm_head.weight" else f"model.{name}"] = size
    for shard, sizes in shards.items():
        save_file({name: _random(size) for name, size in sizes.items()}, folder / shard)
    owners = {name: shard for shard, sizes in shards.items() for name in sizes}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": owners}))


def _random(size: tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng(0)
    rows = [random.standard_normal(size[1:], np.float32).astype(ml_dtypes.bfloat16) for _ in range(size[0])]
    return np.stack(rows)


def export(folder: str) -> tuple[int, float]:
    """Peak resident bytes and seconds of reading the target and writing its graph."""
    source = Path(folder)
    click.echo(f"before the first tensor: {_peak() / GB:.2f} GB resident")
    started = time.perf_counter()
    spec, weights = read_hf_target(source)
    graph = get_family(spec.architecture).build_graph(spec, weights, TAPS, POSITIONS)
    save_graph(graph, source / "target.onnx")
    _sync(source / "target.onnx.data")
    return _peak(), time.perf_counter() - started


def _peak() -> int:
    """Most bytes resident in this process; `getrusage` would count its parent's too, from before it was replaced."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def copy_seconds(folder: Path, size: int) -> float:
    """Seconds to write so many bytes."""
    block, started = os.urandom(CHUNK), time.perf_counter()
    with (folder / "plain").open("wb") as file:
        for _ in range(-(-size // CHUNK)):
            file.write(block)
    _sync(folder / "plain")
    return time.perf_counter() - started


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@click.command(context_settings={"show_default": True})
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--layers", default=36)
@click.option("--hidden", default=4096)
@click.option("--inner", default=12288)
@click.option("--vocab", default=151_936)
@click.option("--limit", default=1.5, help="Exit code 1 when the peak is more than so many times the largest tensor.")
def command(folder: Path, layers: int, hidden: int, inner: int, vocab: int, limit: float) -> None:
    """Export in FOLDER and say what it took."""
    spec = target_spec(layers, hidden, inner, vocab)
    sizes = [FLOAT_BYTES * int(np.prod(size)) for size in target_tensors(spec).values()]
    folder.mkdir(parents=True)
    try:
        write_target(folder, spec)
        with get_context("spawn").Pool(1) as pool:
            peak, seconds = pool.apply(export, (str(folder),))
        (folder / "target.onnx.data").unlink()
        plain = copy_seconds(folder, sum(sizes))
    finally:
        shutil.rmtree(folder)
    share = peak / max(sizes)
    click.echo(f"{sum(sizes) / GB:.1f} GB written in {seconds:.0f} s; as many bytes alone: {plain:.0f} s")
    click.echo(f"peak {peak / GB:.2f} GB, {share:.2f} times the largest tensor ({max(sizes) / GB:.2f} GB in float32)")
    if share > limit:
        sys.exit(1)


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a user's errors become a line and a hint."""
    return exit_code(command, arguments)


if __name__ == "__main__":
    sys.exit(run())
