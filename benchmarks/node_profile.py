"""An engine's time by kind of node, from ONNX Runtime's profiler."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dspark_engines import Bundle
from dspark_engines.backends import EngineOptions
from dspark_engines.backends.exported import NEXT_IDS, reads_text, role_caches
from dspark_engines.backends.onnxruntime import session as sessions
from dspark_engines.backends.onnxruntime.backend import bucket_sizes
from dspark_engines.backends.onnxruntime.engines import role_outputs
from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.program import Feeds, OrtProgram, OrtSlot
from dspark_engines.bundle import EngineInfo
from node_kinds import RENAMING, kind_of, node_kinds

RUNS = 24
KEPT = 8
"""The last runs count; the first ones are slow."""


def profile_engines(bundle: Bundle, rows: int, context: int, threads: int) -> dict[str, Any]:
    """Both engines with `rows` requests behind `context` cached tokens: a round's draft step (two new features a
    row) and its verify step of a whole block."""
    size = next(size for size in bucket_sizes(bundle.manifest.limits.slots) if size >= rows)
    backend = next(info for info in bundle.manifest.backends if info.name == "onnxruntime")
    found: dict[str, Any] = {}
    for engine in backend.engines:
        if engine.slots == size:
            feeds = _draft_feeds if engine.role == "draft" else _verify_feeds
            found[engine.role] = _profile(bundle, engine, partial(feeds, bundle, size), context, threads)
    return found


def _profile(
    bundle: Bundle, engine: EngineInfo, feeds: Callable[[int, int], Feeds], context: int, threads: int
) -> dict[str, Any]:
    tokens = 2 if engine.role == "draft" else bundle.manifest.drafter.block_size + 1
    step = _runs(bundle, engine, feeds, context, threads, tokens, None)
    with TemporaryDirectory() as folder:
        _runs(bundle, engine, feeds, context, threads, tokens, Path(folder) / "profile")
        events = json.loads(next(Path(folder).iterdir()).read_text())
    kinds = node_kinds(bundle.file(engine.path))
    begin = sorted(event["ts"] for event in events if event["name"] == "model_run")[-KEPT]
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time") and e["ts"] >= begin]
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"ms": 0.0, "nodes": 0})
    floor = []
    for event in kernels:
        operator = event["args"]["op_name"]
        entry = found[kind_of(event["name"].removesuffix("_kernel_time"), operator, kinds)]
        entry["ms"] += event["dur"] / 1e3 / KEPT
        entry["nodes"] += 1
        floor += [event["dur"]] if operator in RENAMING else []
    for entry in found.values():
        entry["nodes"] = round(entry["nodes"] / KEPT)
    return {
        "step_ms": 1e3 * step,
        "kernels_ms": sum(entry["ms"] for entry in found.values()),
        "nodes": round(len(kernels) / KEPT),
        "floor_us": float(np.median(floor)) if floor else 0.0,
        "kinds": dict(found),
    }


def _runs(
    bundle: Bundle,
    engine: EngineInfo,
    feeds: Callable[[int, int], Feeds],
    context: int,
    threads: int,
    tokens: int,
    prefix: Path | None,
) -> float:
    """Fill the caches, run the step again and again: median seconds. With `prefix` the profiler writes there."""
    session = _session(bundle, engine, threads, prefix)
    capacity = bundle.manifest.limits.context_length + bundle.manifest.drafter.block_width
    program = OrtProgram(session, role_outputs(bundle, engine.role), role_caches(bundle, engine.role), capacity)
    slots, chunk = [OrtSlot(program.cache_shapes) for _ in range(engine.slots)], 64
    for start in range(0, context, chunk):
        program.run(slots, feeds(min(chunk, context - start), start))
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        program.run(slots, feeds(tokens, context))
        seconds.append(time.perf_counter() - started)
    if prefix is not None:
        session.end_profiling()
    return float(np.median(seconds[-KEPT:]))


def _session(bundle: Bundle, engine: EngineInfo, threads: int, prefix: Path | None) -> onnxruntime.InferenceSession:
    """As the backend opens it, but for the profiler."""
    if prefix is None:
        return sessions.open_session(bundle, engine, EngineOptions(threads))
    settings = sessions.engine_settings(bundle, engine, EngineOptions(threads))
    settings.enable_profiling, settings.profile_file_prefix = True, str(prefix)
    model = bundle.file(engine.path).read_bytes()
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def _verify_feeds(bundle: Bundle, rows: int, tokens: int, used: int) -> Feeds:
    """Every row `tokens` new ones; logits of the last block's worth of each."""
    ends = np.arange(1, rows + 1) * tokens
    wanted = min(tokens, bundle.manifest.drafter.block_size + 1)
    logit_rows = np.concatenate([np.arange(end - wanted, end) for end in ends])
    return {
        "token_ids": np.random.default_rng(used).integers(0, bundle.manifest.target.vocab_size, rows * tokens),
        "row_lengths": np.full(rows, tokens),
        "used": np.full(rows, used),
        "logit_rows": logit_rows,
    }


def _draft_feeds(bundle: Bundle, rows: int, tokens: int, used: int) -> Feeds:
    info = bundle.manifest.drafter
    text = {NEXT_IDS: np.zeros(rows * tokens, np.int64)} if reads_text(bundle) else {}
    return text | {
        "features": np.random.default_rng(used).standard_normal((rows * tokens, info.feature_size), np.float32),
        "feature_lengths": np.full(rows, tokens),
        "used": np.full(rows, used),
        "anchor_ids": np.zeros(rows, np.int64),
        "temperature": np.zeros(rows, np.float32),
        "uniforms": np.zeros((rows, info.block_size), np.float32),
    }
