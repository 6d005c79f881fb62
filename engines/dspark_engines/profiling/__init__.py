"""Measuring a bundle's engines on this machine."""

from dspark_engines.profiling.layouts import PlacementPlan, place
from dspark_engines.profiling.measure import ProfilePlan, measure

__all__ = ["PlacementPlan", "ProfilePlan", "measure", "place"]
