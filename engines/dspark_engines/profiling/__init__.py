"""Measuring a bundle's engines on this machine."""

from dspark_engines.profiling.layouts import PlacementPlan, place
from dspark_engines.profiling.measure import ProfilePlan, measure
from dspark_engines.profiling.run import profile_bundle, profile_plan

__all__ = ["PlacementPlan", "ProfilePlan", "measure", "place", "profile_bundle", "profile_plan"]
