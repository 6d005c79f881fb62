"""From a request to tokens."""

from dspark_engines.runtime.generator import Generator
from dspark_engines.runtime.request import GenerationRequest, check_request
from dspark_engines.runtime.result import GenerationResult

__all__ = ["GenerationRequest", "GenerationResult", "Generator", "check_request"]
