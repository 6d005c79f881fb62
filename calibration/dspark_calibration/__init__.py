"""Measuring speculation: acceptance figures."""

from dspark_calibration.acceptance import Round, accepted_length, accepted_per_position

__all__ = ["Round", "accepted_length", "accepted_per_position"]
