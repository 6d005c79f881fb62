"""Outputs of a step, put together from those of its launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_engines.arrays import Floats, Ints
from dspark_engines.backends.padded.launches import Launch


def served_rows(output: npt.NDArray[Any], launch: Launch) -> npt.NDArray[Any]:
    """The served rows of an output [R, ...], without a copy where they are the first ones."""
    places = list(launch.rows.places)
    return output[: len(places)] if places == list(range(len(places))) else output[places]


class Pieces:
    """One output of a step, launch by launch: copied if there are several, since each overwrites the last one's."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self._copying, self._parts, self._indices = len(launches) > 1, list[Floats](), list[Ints]()

    def add(self, lines: Floats, indices: Ints) -> None:
        """The first lines belong at these places in the step's order."""
        part = lines[: len(indices)]
        self._parts.append(part.copy() if self._copying else part)
        self._indices.append(indices)

    def joined(self) -> Floats:
        """The output of the whole step."""
        if not self._copying:
            return self._parts[0]
        lines = sum(len(part) for part in self._parts)
        result = np.empty((lines, *self._parts[0].shape[1:]), self._parts[0].dtype)
        for part, indices in zip(self._parts, self._indices, strict=True):
            result[indices] = part
        return result
