"""Measuring a bundle's engines on this machine."""

from dspark_engines.profiling.measure import ProfilePlan, measure
from dspark_engines.profiling.placing import PlacementPlan, place

__all__ = ["PlacementPlan", "ProfilePlan", "measure", "place"]
