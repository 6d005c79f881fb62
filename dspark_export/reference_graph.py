"""The exported graphs run as they are, function bodies and all: slow, and what engines are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

Arrays = dict[str, npt.NDArray[Any]]


class ReferenceGraph:
    """An exported graph with its stacked caches [R, Hkv, C, D], kept between steps."""

    def __init__(self, path: Path, rows: int, capacity: int) -> None:
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        self._outputs = [value.name for value in self._session.get_outputs()]
        self.caches: Arrays = {
            value.name: np.zeros((rows, value.shape[1], capacity, value.shape[3]), np.float32)
            for value in self._session.get_inputs()
            if "_cache." in value.name
        }

    def step(self, **feeds: npt.NDArray[Any]) -> Arrays:
        """Run one step; returns the outputs that are not caches."""
        results = dict(zip(self._outputs, self._session.run(None, {**feeds, **self.caches}), strict=True))
        for name in self.caches:
            self.caches[name] = results.pop(name.replace("_cache.", "_cache_out."))
        return results
