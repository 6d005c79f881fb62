"""Sampling without loss: parameters, reproducible uniforms, truncation, rejection sampling."""

from dspark_engines.sampling.accept import accept_rows, accept_step
from dspark_engines.sampling.params import SamplingParams
from dspark_engines.sampling.stream import ACCEPT, DRAFT, NEXT, accept_uniforms, draft_uniforms, uniforms
from dspark_engines.sampling.truncate import truncate

__all__ = [
    "ACCEPT",
    "DRAFT",
    "NEXT",
    "SamplingParams",
    "accept_rows",
    "accept_step",
    "accept_uniforms",
    "draft_uniforms",
    "truncate",
    "uniforms",
]
