"""What is traced: prompts, how far, how drawn; checked before the engines are loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from dspark_calibration import PromptRef, TraceHeader
from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import Bundle, engine_identity
from dspark_engines.errors import BundleError, DsparkError
from dspark_engines.runtime import GenerationRequest
from dspark_engines.sampling import SamplingParams
from dspark_engines.sampling.params import SEEDS
from dspark_export.prompts import Prompt, encode_prompts

SEED_STEP = 0x9E3779B97F4A7C15
"""Prompts get seeds far apart, by their place in the whole set: the same in every shard."""


@dataclass(frozen=True)
class TracePlan:
    """How prompts are generated. One at a time, so that a round is the same bits whatever else runs."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    backend: str = "onnxruntime"
    engines: EngineOptions = field(default_factory=EngineOptions)


@dataclass(frozen=True)
class Shard:
    """Every `count`-th prompt, beginning with the `number`-th (from 1)."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise DsparkError(f"shard {self.number}/{self.count} does not exist", hint="shards are 1/n to n/n")

    def holds(self, index: int) -> bool:
        """Whether prompt `index` (from 0) belongs to this shard."""
        return index % self.count == self.number - 1


def trace_header(bundle: Bundle, prompts: Sequence[Prompt], plan: TracePlan) -> TraceHeader:
    """Raises `DsparkError` for a drafter without confidences, and for prompts that occur twice."""
    if not bundle.manifest.drafter.drafts:
        raise BundleError(
            f"{bundle.path}: has no drafter: there is nothing to calibrate", hint="build it with --drafter"
        )
    drafter = bundle.manifest.drafter
    if not drafter.confidence and not drafter.scores:
        raise BundleError(
            f"{bundle.path}: the drafter has no confidence head, and its engine gives nothing to estimate one from",
            hint="build the bundle again with this version; `profile` works without",
        )
    _refuse_repeats(prompts)
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update("\0".join((prompt.id, prompt.source, prompt.text)).encode("utf-8", "surrogatepass") + b"\n")
    return TraceHeader(
        bundle=engine_identity(bundle.manifest, plan.backend),
        block_size=bundle.manifest.drafter.block_size,
        prompts_sha256=digest.hexdigest(),
        max_new_tokens=plan.max_new_tokens,
        temperature=plan.temperature,
        seed=plan.seed,
        scores=drafter.scores,
        prompts=[PromptRef(id=prompt.id, source=prompt.source) for prompt in prompts],
    )


def requests(bundle: Bundle, prompts: Sequence[Prompt], plan: TracePlan) -> list[GenerationRequest]:
    """One request a prompt. Raises `RequestError` naming the line that the bundle cannot serve."""
    made = []
    for number, ids in enumerate(encode_prompts(bundle, prompts), 1):
        seed = (plan.seed + number * SEED_STEP) % SEEDS
        sampling = SamplingParams(temperature=plan.temperature, seed=seed)
        made.append(GenerationRequest(ids, plan.max_new_tokens, sampling=sampling))
    return made


def _refuse_repeats(prompts: Sequence[Prompt]) -> None:
    """A prompt that occurs twice could be fitted on and validated on."""
    ids: set[str] = set()
    texts: dict[str, str] = {}
    for prompt in prompts:
        if prompt.id in ids:
            raise DsparkError(f"prompt id {prompt.id} occurs twice", hint="give each prompt its own id")
        if prompt.text in texts:
            raise DsparkError(
                f"prompts {texts[prompt.text]} and {prompt.id} are the same: one could be fitted on, one validated on",
                hint="keep each prompt once",
            )
        ids.add(prompt.id)
        texts[prompt.text] = prompt.id
