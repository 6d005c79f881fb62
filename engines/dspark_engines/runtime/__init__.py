"""From requests to tokens."""

from dspark_engines.runtime.drafting import Drafts
from dspark_engines.runtime.events import Event, Failed, Finished, RequestStream, Tokens
from dspark_engines.runtime.generator import Generator
from dspark_engines.runtime.request import GenerationRequest, check_request
from dspark_engines.runtime.result import GenerationResult
from dspark_engines.runtime.rounds import RoundObserver
from dspark_engines.runtime.runtime import Runtime, RuntimeOptions
from dspark_engines.runtime.statistics import RunStatistics, run_statistics
from dspark_engines.runtime.verifying import Outcome

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
