"""What a checkpoint's model is made of: families of targets and methods of drafting, as the readers know them."""

from dspark_export.checkpoints.seams.family import (
    TargetFamily,
    family_architectures,
    family_of_config,
    family_of_gguf,
    get_family,
    gguf_architectures,
    register_family,
)
from dspark_export.checkpoints.seams.gguf_layout import GgufLayout
from dspark_export.checkpoints.seams.method import DraftMethod, get_method, method_names, register_method

__all__ = [
    "DraftMethod",
    "GgufLayout",
    "TargetFamily",
    "family_architectures",
    "family_of_config",
    "family_of_gguf",
    "get_family",
    "get_method",
    "gguf_architectures",
    "method_names",
    "register_family",
    "register_method",
]
