"""From requests to tokens."""

from dspark_engines.runtime.events import Event, Failed, Finished, RequestStream, Tokens
from dspark_engines.runtime.generator import Generator
from dspark_engines.runtime.request import GenerationRequest, check_request
from dspark_engines.runtime.result import GenerationResult
from dspark_engines.runtime.runtime import Runtime, RuntimeOptions

__all__ = [
    "Event",
    "Failed",
    "Finished",
    "GenerationRequest",
    "GenerationResult",
    "Generator",
    "RequestStream",
    "Runtime",
    "RuntimeOptions",
    "Tokens",
    "check_request",
]
