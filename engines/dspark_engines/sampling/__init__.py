"""Sampling without loss: parameters, reproducible uniforms, truncation, rejection sampling."""

from dspark_engines.sampling.accept import verify_rows, verify_trial
from dspark_engines.sampling.params import SamplingParams
from dspark_engines.sampling.stream import ACCEPT, DRAFT, NEXT, draft_uniforms, uniforms, verify_uniforms
from dspark_engines.sampling.truncate import truncate

__all__ = [
    "ACCEPT",
    "DRAFT",
    "NEXT",
    "SamplingParams",
    "draft_uniforms",
    "truncate",
    "uniforms",
    "verify_rows",
    "verify_trial",
    "verify_uniforms",
]
