"""A file for TensorRT-LLM's DSpark.

Source, as of its commit 0ee1e73 (2026): `load_sts_temperatures_from_path` in
tensorrt_llm/_torch/speculative/dspark_sts.py, which takes the key "sts_temperatures" or SGLang's "temperatures".
Its cost tables are bound to its own captured graphs, so none can be made elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def tensorrt_llm_temperatures(temperatures: Sequence[float]) -> dict[str, Any]:
    """One temperature a position."""
    return {"sts_temperatures": list(temperatures)}
