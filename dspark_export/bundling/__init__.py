"""Making bundles."""

from dspark_engines.progress import Reporter, Silent, Step
from dspark_export.bundling.build import build_bundle, compile_bundle
from dspark_export.bundling.pair import NamedDrafter, Pair
from dspark_export.bundling.plan import BuildPlan, open_pair

__all__ = [
    "BuildPlan",
    "NamedDrafter",
    "Pair",
    "Reporter",
    "Silent",
    "Step",
    "build_bundle",
    "compile_bundle",
    "open_pair",
]
