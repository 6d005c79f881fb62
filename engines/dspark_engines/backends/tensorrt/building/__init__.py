"""From a lowered graph to an engine file."""

from dspark_engines.backends.tensorrt.building.build import EngineRequest, build_engine
from dspark_engines.backends.tensorrt.building.plugins import choose_plugins
from dspark_engines.backends.tensorrt.building.target import choose_capability

__all__ = ["EngineRequest", "build_engine", "choose_capability", "choose_plugins"]
