"""Measuring speculation and calibrating confidences: acceptance figures, traces, fits, metrics, reports."""

from dspark_calibration.acceptance import Round, accepted_length, accepted_per_position
from dspark_calibration.errors import CalibrationError
from dspark_calibration.problem import first_problem
from dspark_calibration.sts import StsCalibration
from dspark_calibration.traces import PromptRef, PromptTrace, Rounds, TraceHeader, TraceStore

__all__ = [
    "CalibrationError",
    "PromptRef",
    "PromptTrace",
    "Round",
    "Rounds",
    "StsCalibration",
    "TraceHeader",
    "TraceStore",
    "accepted_length",
    "accepted_per_position",
    "first_problem",
]
