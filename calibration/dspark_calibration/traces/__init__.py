"""Rounds as they were generated, on disk: raw confidences and how much survived."""

from dspark_calibration.traces.header import PromptRef, TraceHeader
from dspark_calibration.traces.load import load_rounds
from dspark_calibration.traces.merge import merge_traces
from dspark_calibration.traces.rounds import Rounds
from dspark_calibration.traces.split import split_prompts
from dspark_calibration.traces.store import PromptTrace, TraceStore

__all__ = [
    "PromptRef",
    "PromptTrace",
    "Rounds",
    "TraceHeader",
    "TraceStore",
    "load_rounds",
    "merge_traces",
    "split_prompts",
]
