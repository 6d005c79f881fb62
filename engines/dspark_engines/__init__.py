"""Compile and run the engines of a bundle; nothing here needs torch."""

from dspark_engines.bundle import Bundle, open_bundle
from dspark_engines.errors import DsparkError
from dspark_engines.runtime import GenerationRequest, GenerationResult, Generator, Runtime, RuntimeOptions
from dspark_engines.sampling import SamplingParams

__all__ = [
    "Bundle",
    "DsparkError",
    "GenerationRequest",
    "GenerationResult",
    "Generator",
    "Runtime",
    "RuntimeOptions",
    "SamplingParams",
    "open_bundle",
]
