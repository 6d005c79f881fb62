"""The calibration of a bundle's confidences: stored in it, and bound to its engines."""

from dspark_engines.confidence.file import STS, Confidence, Experience, load_confidence, read_sts, save_sts

__all__ = ["STS", "Confidence", "Experience", "load_confidence", "read_sts", "save_sts"]
