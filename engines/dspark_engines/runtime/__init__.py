"""From requests to tokens."""

from dspark_engines.runtime.events import Event, Failed, Finished, RequestStream, Tokens
from dspark_engines.runtime.generator import Generator
from dspark_engines.runtime.request import GenerationRequest, check_request
from dspark_engines.runtime.result import GenerationResult
from dspark_engines.runtime.round.draft_step import Drafts
from dspark_engines.runtime.round.runner import RoundObserver
from dspark_engines.runtime.round.verify_step import Outcome
from dspark_engines.runtime.serving.plan import RuntimeOptions
from dspark_engines.runtime.serving.runtime import Runtime
from dspark_engines.runtime.serving.statistics import RunStatistics, run_statistics

__all__ = [
    "Drafts",
    "Event",
    "Failed",
    "Finished",
    "GenerationRequest",
    "GenerationResult",
    "Generator",
    "Outcome",
    "RequestStream",
    "RoundObserver",
    "RunStatistics",
    "Runtime",
    "RuntimeOptions",
    "Tokens",
    "check_request",
    "run_statistics",
]
