"""Rejection sampling of drafted tokens: `dspark::Verify`."""

from dspark_plugins.verify.contract import BROKEN, INPUTS, OUTPUTS, RESIDUAL_FLOOR, VERIFY, VerifySpec

__all__ = ["BROKEN", "INPUTS", "OUTPUTS", "RESIDUAL_FLOOR", "VERIFY", "VerifySpec"]
