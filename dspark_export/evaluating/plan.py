"""How prompts are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dspark_engines import GenerationRequest, RuntimeOptions, SamplingParams
from dspark_engines.backends import EngineOptions
from dspark_engines.sampling.params import SEEDS
from dspark_export.calibrating.plan import SEED_STEP
from dspark_export.evaluating.ways import Mode, Way


@dataclass(frozen=True, kw_only=True)
class EvalPlan:
    """One request at a time. Greedy always; with a temperature sampled as well, each prompt with a seed of its own."""

    max_new_tokens: int = 64
    sampling: SamplingParams = field(default_factory=SamplingParams)
    scheduler: str = "auto"
    backend: str = "onnxruntime"
    threads: int = 0

    @property
    def modes(self) -> list[Mode]:
        """In the order in which they are run."""
        return ["greedy"] if self.sampling.greedy else ["greedy", "sampled"]

    def request(self, prompt_ids: Sequence[int], mode: Mode, number: int) -> GenerationRequest:
        """For the prompt at place `number` of those that are taken."""
        given = self.sampling
        seed = (given.seed + (number + 1) * SEED_STEP) % SEEDS
        sampled = SamplingParams(given.temperature, given.top_k, given.top_p, given.min_p, seed)
        return GenerationRequest(
            prompt_ids, self.max_new_tokens, sampling=SamplingParams() if mode == "greedy" else sampled
        )

    def options(self, way: Way) -> RuntimeOptions:
        """Of the runtime that decodes in this way: drafting always, or never."""
        return RuntimeOptions(
            backend=self.backend,
            engines=EngineOptions(self.threads),
            max_batch=1,
            scheduler=self.scheduler,
            speculation="on" if way.speculates else "off",
        )
