"""What is asked of the runtime, and whether a bundle can do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dspark_engines.bundle import Manifest
from dspark_engines.errors import RequestError
from dspark_engines.sampling import SamplingParams


@dataclass(frozen=True)
class GenerationRequest:
    """A prompt as token ids and how far to go; `speculate` False decodes plainly with the same engine.

    What is drawn depends on `sampling` and its seed, never on other requests.
    """

    prompt_ids: Sequence[int]
    max_new_tokens: int
    speculate: bool = True
    sampling: SamplingParams = field(default_factory=SamplingParams)


def check_draftable(request: GenerationRequest, samples: bool) -> None:
    """Raises `RequestError` for a sampled request that would be drafted by engines that do not `sample`."""
    if request.speculate and request.sampling.temperature > 0 and not samples:
        raise RequestError(
            f"the temperature is {request.sampling.temperature:g}, and these engines draft greedily only",
            hint="compile them without --greedy-drafts, or decode without speculation",
        )


def check_request(request: GenerationRequest, manifest: Manifest) -> None:
    """Raises `RequestError` when the bundle cannot serve this request."""
    limit, vocabulary = manifest.limits.context_length, manifest.target.vocab_size
    if not request.prompt_ids:
        raise RequestError("the prompt has no tokens", hint="pass some text")
    if request.max_new_tokens < 1:
        raise RequestError(f"max_new_tokens is {request.max_new_tokens}", hint="ask for at least one token")
    if len(request.prompt_ids) >= limit:
        raise RequestError(
            f"the prompt has {len(request.prompt_ids)} tokens, the bundle's context holds {limit} "
            "and needs room for at least one more",
            hint="shorten the prompt, or build the bundle with a larger --context-length",
        )
    outside = next((i for i in request.prompt_ids if not 0 <= i < vocabulary), None)
    if outside is not None:
        raise RequestError(
            f"token id {outside} lies outside the vocabulary of {vocabulary}", hint="use the bundle's own tokenizer"
        )
