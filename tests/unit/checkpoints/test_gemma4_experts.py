"""Gemma 4's stacks of experts: cut into halves, or left alone."""

from __future__ import annotations

import numpy as np
import pytest

from dspark_export.checkpoints.tensors import Entry
from dspark_export.families.gemma4.experts import split_experts

NAME = "layers.0.experts.gate_up_proj"


def test_gate_is_the_first_half_and_up_the_second() -> None:
    stack = np.arange(2 * 6 * 4, dtype=np.float32).reshape(2, 6, 4)
    entries = split_experts(NAME, Entry("there"), stack.shape)
    assert list(entries) == ["layers.0.experts.gate_proj.weight", "layers.0.experts.up_proj.weight"]
    for (_, entry), half in zip(entries.items(), np.split(stack, 2, axis=1), strict=True):
        assert entry.source_name == "there"
        assert entry.shape == (2, 3, 4)
        assert entry.transform is not None
        np.testing.assert_array_equal(entry.transform(stack), half)


@pytest.mark.parametrize("shape", [(2, 7, 4), (14, 4)])
def test_what_has_no_halves_is_left_alone(shape: tuple[int, ...]) -> None:
    """The list of tensors refuses it by its own name."""
    assert split_experts(NAME, Entry("there"), shape) == {NAME: Entry("there")}
