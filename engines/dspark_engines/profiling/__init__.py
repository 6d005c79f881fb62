"""Measuring a bundle's engines on this machine."""

from dspark_engines.profiling.layouts import PlacementPlan, place
from dspark_engines.profiling.measure import ProfilePlan, measure
from dspark_engines.profiling.quick import measure_quickly
from dspark_engines.profiling.run import profile_bundle, profile_plan

__all__ = ["PlacementPlan", "ProfilePlan", "measure", "measure_quickly", "place", "profile_bundle", "profile_plan"]
