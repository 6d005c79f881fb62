"""Sentences: which way round, and when nothing is shown."""

from __future__ import annotations

import pytest

from dspark_calibration.report import Measured
from dspark_export.evaluating.findings import is_speed_shown, length_finding, speed_finding


def measured(value: float, low: float, high: float) -> Measured:
    return Measured(value=value, low=low, high=high)


@pytest.mark.parametrize(
    ("difference", "prompts", "sentence"),
    [
        ((0.43, 0.31, 0.55), 24, "a accepts 0.43 more tokens a round than b (95% interval 0.31 to 0.55, 24 prompts)"),
        (
            (-0.43, -0.55, -0.31),
            24,
            "b accepts 0.43 more tokens a round than a (95% interval 0.31 to 0.55, 24 prompts)",
        ),
        (
            (0.1, -0.2, 0.4),
            24,
            "tokens a round of a and b are not told apart by these 24 prompts "
            "(a difference of +0.10, 95% interval -0.20 to +0.40)",
        ),
        (
            (0.43, 0.31, 0.55),
            1,
            "tokens a round of a and b are not compared: 1 prompt can tell nothing apart, take at least 5",
        ),
    ],
)
def test_accepted_lengths(difference: tuple[float, float, float], prompts: int, sentence: str) -> None:
    assert length_finding("a", "b", measured(*difference), prompts) == sentence


@pytest.mark.parametrize(
    ("ratio", "second", "sentence"),
    [
        (
            (1.81, 1.62, 2.01),
            "plain",
            "a has 1.81 times the tokens/s of plain decoding (95% interval 1.62 to 2.01, 24 prompts)",
        ),
        ((0.8, 0.7, 0.9), "b", "a is slower than b: 0.80 times its tokens/s (95% interval 0.70 to 0.90, 24 prompts)"),
        (
            (1.1, 0.9, 1.3),
            "b",
            "tokens/s of a and b are not told apart by these 24 prompts (1.10 times, 95% interval 0.90 to 1.30)",
        ),
    ],
)
def test_speeds(ratio: tuple[float, float, float], second: str, sentence: str) -> None:
    assert speed_finding("a", second, measured(*ratio), 24, None) == sentence


def test_nothing_is_said_without_rounds_or_second_tokens() -> None:
    assert "nothing is known about tokens a round of a and b" in length_finding("a", "b", None, 24)
    assert "nothing is known about tokens/s of a and b" in speed_finding("a", "b", None, 24, None)


@pytest.mark.parametrize(("control", "shown"), [(1.01, True), (0.99, True), (1.03, False), (0.97, False)])
def test_a_gain_that_plain_decoding_has_over_itself_is_not_shown(control: float, shown: bool) -> None:
    found = is_speed_shown(measured(1.05, 1.02, 1.08), 24, measured(control, 0.9, 1.1))
    assert found is shown
