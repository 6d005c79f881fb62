"""Two thousand requests of mixed length through eight slots, some cancelled: none lost, none twice, memory flat."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from dspark_engines import GenerationRequest, Runtime, RuntimeOptions
from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import Limits, open_bundle
from dspark_engines.runtime import Finished, RequestStream, Tokens
from dspark_export.bundling import BuildPlan, Silent, build_bundle

REQUESTS, WARM_UP, BURST, GROWTH = 2000, 200, 100, 1.05


def resident_bytes() -> int:
    """Memory of this process that is really there."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def drain(stream: RequestStream) -> tuple[int, int]:
    """(tokens streamed, tokens in the result); the stream must end exactly once."""
    events = list(stream)
    assert [isinstance(event, Finished) for event in events] == [False] * (len(events) - 1) + [True]
    streamed = sum(len(event.token_ids) for event in events if isinstance(event, Tokens))
    return streamed, len(events[-1].result.token_ids)


@pytest.mark.parametrize("pipeline", ["off", "on"])
def test_many_requests(tiny_pair: tuple[Path, Path], tmp_path: Path, pipeline: str) -> None:
    limits = Limits(context_length=96, prefill_chunk=16, slots=8)
    build_bundle(BuildPlan(*tiny_pair, tmp_path / "bundle", "onnxruntime", limits), Silent())
    rng, resident, served = random.Random(0), [], 0
    options = RuntimeOptions(engines=EngineOptions(threads=1), pipeline=pipeline, speculation="on")
    with Runtime(open_bundle(tmp_path / "bundle"), options) as runtime:
        for _ in range(0, REQUESTS, BURST):
            lengths = [rng.randrange(1, 13) for _ in range(BURST)]
            prompts = [[rng.randrange(4, 100) for _ in range(rng.randrange(1, 40))] for _ in range(BURST)]
            streams = [runtime.submit(GenerationRequest(p, n)) for p, n in zip(prompts, lengths, strict=True)]
            for stream in rng.sample(streams, BURST // 10):
                stream.cancel()
            for stream, length in zip(streams, lengths, strict=True):
                streamed, produced = drain(stream)
                assert streamed == produced <= length
                assert produced or stream.cancelled
                served += 1
            resident.append(resident_bytes())
    assert served == REQUESTS
    settled = resident[WARM_UP // BURST - 1]
    assert max(resident[WARM_UP // BURST :]) <= GROWTH * settled, [f"{r / 1e6:.0f} MB" for r in resident]
