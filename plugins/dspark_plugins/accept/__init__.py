"""Rejection sampling of drafted tokens: `dspark::Accept`."""

from dspark_plugins.accept.contract import ACCEPT, BROKEN, INPUTS, OUTPUTS, RESIDUAL_FLOOR, AcceptSpec

__all__ = ["ACCEPT", "BROKEN", "INPUTS", "OUTPUTS", "RESIDUAL_FLOOR", "AcceptSpec"]
