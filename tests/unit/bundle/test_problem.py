"""One line on what is wrong with data from outside."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, model_validator

from dspark_calibration import first_problem


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: PositiveInt


class Outer(BaseModel):
    inner: Inner
    parts: list[Inner] = []

    @model_validator(mode="after")
    def _few(self) -> Outer:
        if len(self.parts) > 2:
            raise ValueError("too many parts")
        return self


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({}, "missing key 'inner'"),
        ({"inner": {}}, "missing key 'inner.size'"),
        ({"inner": {"size": 1, "x": 2}}, "unknown key 'inner.x'"),
        ({"inner": {"size": 0}}, "inner.size: Input should be greater than 0 (found 0)"),
        ({"inner": {"size": 1}, "parts": [{"size": 1}] * 3}, "too many parts"),
        ({"inner": {"size": 1}, "parts": [{"size": 1}, {"size": -1}]}, "parts.1.size: Input should be greater than 0"),
        ([], "Input should be a valid dictionary or instance of Outer"),
    ],
    ids=["missing", "missing inside", "unknown", "out of range", "a check of the whole", "in a list", "no object"],
)
def test_the_first_problem(data: Any, line: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(data)
    assert first_problem(caught.value).startswith(line)


def test_long_values_and_line_ends_stay_out() -> None:
    with pytest.raises(ValidationError) as caught:
        Inner.model_validate({"size": "x\n" * 999})
    line = first_problem(caught.value)
    assert len(line.splitlines()) == 1
    assert len(line) < 200


def test_json_that_is_none() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(b"{")
    assert first_problem(caught.value).startswith("Invalid JSON: ")


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("one\ntwo"), "one"), (ValueError(), "ValueError"), (OSError(2, "No such file"), "[Errno 2] No such")],
    ids=repr,
)
def test_other_errors(error: Exception, line: str) -> None:
    assert first_problem(error).startswith(line)
