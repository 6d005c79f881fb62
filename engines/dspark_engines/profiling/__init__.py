"""Measuring a bundle's engines on this machine."""

from dspark_engines.profiling.measure import ProfilePlan, measure

__all__ = ["ProfilePlan", "measure"]
