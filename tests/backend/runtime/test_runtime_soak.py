"""Twelve thousand rounds in one runtime: memory stays flat and nothing is left. About a minute on two cores."""

from __future__ import annotations

import gc
import random
import threading
from pathlib import Path

import pytest

from dspark_engines import GenerationRequest, Runtime, RuntimeOptions, SamplingParams
from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import Limits, open_bundle
from dspark_engines.runtime import RequestStream
from dspark_engines.runtime.round.state import RequestState
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from tests.backend.runtime.test_runtime_stress import resident_bytes

pytestmark = pytest.mark.slow
ROUNDS, WARM_UP, BURST, GROWTH = 12_000, 2_000, 40, 8 * 2**20
"""Growth in bytes; one request's caches and features are 0.1 MiB, so a leak of one in a hundred requests shows."""


def request(rng: random.Random) -> GenerationRequest:
    """Short; a half greedy, a half sampled in all ways, some without speculation."""
    prompt = [rng.randrange(4, 100) for _ in range(rng.randrange(1, 40))]
    sampling = SamplingParams()
    if rng.random() < 0.5:
        cuts = [{"top_k": 10}, {"top_p": 0.9}, {"min_p": 0.05}, {}]
        sampling = SamplingParams(rng.choice([0.5, 1.0]), seed=rng.randrange(2**64), **rng.choice(cuts))
    return GenerationRequest(prompt, rng.randrange(1, 40), rng.random() < 0.8, sampling)


def states() -> int:
    """Requests in flight that anybody still holds; their slots and pending features hang on them."""
    gc.collect()
    return sum(isinstance(thing, RequestState) for thing in gc.get_objects())


def serve(runtime: Runtime, rng: random.Random) -> None:
    streams: list[RequestStream] = [runtime.submit(request(rng)) for _ in range(BURST)]
    for stream in rng.sample(streams, BURST // 8):
        stream.cancel()
    for stream in streams:
        stream.result()


@pytest.mark.parametrize("pipeline", ["off", "on"])
def test_memory_stays_flat(tiny_pair: tuple[Path, Path], tmp_path: Path, pipeline: str) -> None:
    limits = Limits(context_length=96, prefill_chunk=16, slots=8)
    build_bundle(BuildPlan(*tiny_pair, tmp_path / "bundle", "onnxruntime", limits), Silent())
    rng, threads, held, resident = random.Random(1), threading.active_count(), states(), dict[int, int]()
    options = RuntimeOptions(engines=EngineOptions(threads=1), pipeline=pipeline, speculation="on")
    with Runtime(open_bundle(tmp_path / "bundle"), options) as runtime:
        while (rounds := sum(span.engine == "verify" for span in list(runtime.timeline.spans))) < ROUNDS:
            serve(runtime, rng)
            resident[rounds] = resident_bytes()
        left = states() - held
    settled = min(size for rounds, size in resident.items() if rounds >= WARM_UP)
    growth = resident[max(resident)] - settled
    print(f"{rounds} rounds, pipeline {pipeline}: {settled / 2**20:.1f} MiB, grown by {growth / 2**20:.2f} MiB")
    assert left <= 2 * len(runtime.plan.cohorts.slots)  # what a waiting cohort's last round still names
    assert threading.active_count() == threads
    assert states() == held
    assert growth < GROWTH
