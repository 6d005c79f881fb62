"""Sampling without loss: parameters, reproducible uniforms, truncation, rejection sampling."""

from dspark_engines.sampling.params import SamplingParams
from dspark_engines.sampling.stream import ACCEPT, DRAFT, NEXT, draft_uniforms, uniforms, verify_uniforms
from dspark_engines.sampling.truncate import truncate
from dspark_engines.sampling.verify import Verified, sample_rows, verify_rows

__all__ = [
    "ACCEPT",
    "DRAFT",
    "NEXT",
    "SamplingParams",
    "Verified",
    "draft_uniforms",
    "sample_rows",
    "truncate",
    "uniforms",
    "verify_rows",
    "verify_uniforms",
]
