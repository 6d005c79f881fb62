"""Contexts as long as the models take: output with speculation is output without, and drafts are accepted as ever.

The 8,000 tokens of the real pair take about six minutes on two busy cores, the 32,000 of the tiny pair three.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import pytest

from dspark_calibration import Round, accepted_length
from dspark_engines import Bundle, GenerationRequest, Generator, open_bundle
from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.bundle import Limits
from dspark_engines.text import TextCodec
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from tests.support import scripted, tiny

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "build" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPTS = ROOT / "calibration" / "prompts" / "calibration.jsonl"

REAL, TEXT, SHORT, NEW = 8192, 7850, 400, 256
QUESTION = "Write a Python function that returns the n-th Fibonacci number, and explain it step by step."
FLOOR = 1.15
"""Tokens a round that the real drafter has to bring at 8,000 tokens (measured: 1.23); plain decoding brings 1."""
SHARE = 0.75
"""Of the accepted length behind the last part of the same text alone (measured: 1.40)."""
LONG = 32_768


def built(root: Path, target: Path, drafter: Path, limits: Limits) -> Bundle:
    build_bundle(BuildPlan(target, drafter, root / "bundle", "onnxruntime", limits), Silent())
    return open_bundle(root / "bundle")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bundle, Engines]]:
    """The real pair, for one request of 8,192 tokens."""
    if not TARGET.is_file():
        pytest.skip(f"{TARGET} is not there: make fetch brings it")
    limits = Limits(context_length=REAL, prefill_chunk=256, slots=1)
    bundle = built(tmp_path_factory.mktemp("real"), TARGET, ROOT / "examples/smollm2/drafter", limits)
    with get_backend("onnxruntime").open(bundle, EngineOptions()) as engines:
        yield bundle, engines


def generate(generator: Generator, prompt: Sequence[int], count: int) -> tuple[list[int], list[Round]]:
    """Greedy, with speculation; the output is the same without."""
    result = generator.run(GenerationRequest(prompt, count))
    assert result.token_ids == generator.run(GenerationRequest(prompt, count, speculate=False)).token_ids
    return result.token_ids, result.rounds


def conversation(codec: TextCodec, count: int) -> list[int]:
    """The prompt set's texts, their last `count` tokens, and a question behind them, as one user turn."""
    texts = [json.loads(line)["prompt"] for line in PROMPTS.read_text("utf-8").splitlines()]
    body = codec.prompt_ids("\n\n".join(texts), raw=True)[:TEXT][-count:]
    return codec.prompt_ids(f"{codec.tokenizer.decode(body)}\n\n{QUESTION}")


def test_the_real_pair_at_8000_tokens(real: tuple[Bundle, Engines]) -> None:
    """A mistake in positions would show: as differing tokens if it is the target's, as rejected drafts if not."""
    bundle, engines = real
    codec, generator = TextCodec(bundle), Generator(engines, bundle.manifest)
    prompt = conversation(codec, TEXT)
    _, near = generate(generator, conversation(codec, SHORT), NEW)
    tokens, far = generate(generator, prompt, NEW)
    assert len(prompt) + len(tokens) > 8000
    lengths = {"short": accepted_length(near), "long": accepted_length(far)}
    print(f"accepted length behind {SHORT} tokens {lengths['short']:.2f}, behind {len(prompt)} {lengths['long']:.2f}")
    assert lengths["long"] >= FLOOR
    assert lengths["long"] >= SHARE * lengths["short"]


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bundle, Engines]]:
    """The scripted pair, for one request of 32,768 tokens."""
    root = tmp_path_factory.mktemp("long")
    limits = Limits(context_length=LONG, prefill_chunk=512, slots=1)
    bundle = built(root, *scripted.write_pair(root, LONG), limits)
    with get_backend("onnxruntime").open(bundle, EngineOptions(threads=1)) as engines:
        yield bundle, engines


def test_a_text_of_32000_tokens_is_drafted_to_its_end_as_at_its_start(long: tuple[Bundle, Engines]) -> None:
    bundle, engines = long
    prompt, count = [scripted.FIRST], 32_000
    tokens, rounds = generate(Generator(engines, bundle.manifest), prompt, count)
    assert tokens == scripted.continuation(prompt[-1], count)
    ends = list(accumulate(r.produced for r in rounds))
    start = [r for r, end in zip(rounds, ends, strict=True) if end <= 1000]
    last = [r for r, end in zip(rounds, ends, strict=True) if count - 1000 < end < count - tiny.BLOCK]
    assert accepted_length(start) == accepted_length(last) == 1 + tiny.BLOCK


@pytest.mark.parametrize("length", [32_000, LONG - 40])
def test_a_prompt_of_32000_tokens(long: tuple[Bundle, Engines], length: int) -> None:
    """The second ends where the context does."""
    bundle, engines = long
    prompt = [scripted.FIRST, *scripted.continuation(scripted.FIRST, length - 1)]
    tokens, rounds = generate(Generator(engines, bundle.manifest), prompt, 64)
    assert tokens == scripted.continuation(prompt[-1], min(64, LONG - length))
    assert accepted_length(rounds) > tiny.BLOCK - 1
