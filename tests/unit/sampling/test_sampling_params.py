"""Sampling parameters: what is refused, and what they mean."""

from __future__ import annotations

from typing import Any

import pytest

from dspark_engines.errors import RequestError
from dspark_engines.sampling import SamplingParams

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", value) for value in (-0.1, -1, NAN, INFINITY, -INFINITY)),
        ("top_k", -1),
        *(("top_p", value) for value in (0.0, -0.5, 1.0001, NAN, INFINITY)),
        *(("min_p", value) for value in (-0.01, 1.0, 1.5, NAN)),
        *(("seed", value) for value in (-1, 2**64)),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(RequestError, match=f"^{name} is {value}$") as error:
        SamplingParams(**{name: value})
    assert error.value.hint
    assert "\n" not in f"{error.value}{error.value.hint}"


@pytest.mark.parametrize(
    "values",
    [{}, {"temperature": 2.0}, {"top_k": 1}, {"top_p": 1e-9}, {"top_p": 1}, {"min_p": 0.999}, {"seed": 2**64 - 1}],
)
def test_values_in_range_are_taken(values: dict[str, Any]) -> None:
    assert all(getattr(SamplingParams(**values), name) == value for name, value in values.items())


def test_temperature_0_is_greedy_and_needs_no_truncation() -> None:
    assert SamplingParams(top_k=5, top_p=0.5, min_p=0.5).greedy
    assert not SamplingParams(top_k=5, top_p=0.5, min_p=0.5).truncates
    assert not SamplingParams(temperature=0.5).greedy
    assert not SamplingParams(temperature=0.5).truncates
    for truncation in ({"top_k": 5}, {"top_p": 0.5}, {"min_p": 0.5}):
        assert SamplingParams(temperature=0.5, **truncation).truncates
