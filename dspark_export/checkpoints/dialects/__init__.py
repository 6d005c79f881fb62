"""Dialects: the layouts that checkpoints come in, a file each."""

from dspark_export.checkpoints.dialects.base import Dialect, DrafterDialect, TargetDialect
from dspark_export.checkpoints.dialects.registry import (
    drafter_dialect,
    drafter_dialects,
    register_drafter_dialect,
    register_target_dialect,
    target_dialect,
    target_dialects,
)

__all__ = [
    "Dialect",
    "DrafterDialect",
    "TargetDialect",
    "drafter_dialect",
    "drafter_dialects",
    "register_drafter_dialect",
    "register_target_dialect",
    "target_dialect",
    "target_dialects",
]
