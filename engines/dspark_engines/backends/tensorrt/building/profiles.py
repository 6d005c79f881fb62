"""Optimization profiles: a range of shapes for every input, one profile a number of rows and one for wide steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dspark_engines.backends.padded.shapes import RoleShapes, StepShape, input_shape

DYNAMIC = -1


def add_profiles(builder: Any, config: Any, network: Any, shapes: RoleShapes) -> None:
    """One profile for each of `shapes.profiles`, in that order."""
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    for group in shapes.profiles:
        profile = builder.create_optimization_profile()
        for tensor in tensors:
            model = tuple(tensor.shape)
            if DYNAMIC in model:
                low, high = (input_shape(shapes, s, tensor.name, model, n) for s, n in _ends(group))
                profile.set_shape(tensor.name, low, high, high)
        config.add_optimization_profile(profile)


def _ends(group: Sequence[StepShape]) -> list[tuple[StepShape, int]]:
    """Smallest and largest shape of a profile, with the number of tokens that have logits."""
    low, high = group[0], group[-1]
    return [(low, 1 if low.wide else low.tokens), (high, high.tokens)]
