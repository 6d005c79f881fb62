"""Rejection sampling of drafted tokens: `dspark::Verify`."""

from dspark_plugins.verify.contract import INPUTS, OUTPUTS, RESIDUAL_FLOOR, VERIFY, VerifySpec

__all__ = ["INPUTS", "OUTPUTS", "RESIDUAL_FLOOR", "VERIFY", "VerifySpec"]
