"""Which threads run what: chosen by measurement, stored in the bundle."""

from dspark_engines.placement.file import (
    PLACEMENT,
    Arrangement,
    Placement,
    Trial,
    load_placement,
    resolve_engines,
    save_placement,
)
from dspark_engines.placement.pool import EnginePool, open_pool

__all__ = [
    "PLACEMENT",
    "Arrangement",
    "EnginePool",
    "Placement",
    "Trial",
    "load_placement",
    "open_pool",
    "resolve_engines",
    "save_placement",
]
