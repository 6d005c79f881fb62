"""What to keep in mind: said when it is so, and not otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dspark_export.evaluating.caveats import caveats
from dspark_export.evaluating.schema import ModeFigures
from tests.support.evaluations import conditions, sample_evaluation, ways

WAYS = ways("good", "poor")


@pytest.fixture(scope="module")
def mode() -> ModeFigures:
    return sample_evaluation(prompts=20).modes[0]


def said(mode: ModeFigures, *, measured: Sequence[str] = (), accuracy: bool = False) -> str:
    return " | ".join(caveats([mode], WAYS, conditions("good", "poor", measured=measured), accuracy=accuracy))


def with_control(mode: ModeFigures, value: float, low: float, high: float) -> ModeFigures:
    """`mode`, plain decoding against itself as given."""
    changed = mode.model_dump()
    control = next(way for way in changed["ways"] if way["way"] == "plain again")
    control["overall"]["ratio"]["mean"] = {"value": value, "low": low, "high": high}
    return ModeFigures.model_validate(changed)


def test_nothing_is_said_of_a_quiet_machine_and_enough_prompts(mode: ModeFigures) -> None:
    assert said(mode) == "One request at a time: with many at once, verifying costs more and speculation gains less."


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ((1.05, 1.03, 1.07), "plain again came out at 1.05 times plain decoding (1.03 to 1.07), which should be 1"),
        ((0.97, 0.96, 0.98), "which should be 1"),
        ((1.0, 0.8, 1.25), "plain again came out at 1.00 times plain decoding (0.80 to 1.25): timings vary much"),
    ],
)
def test_a_control_that_is_off_is_told(mode: ModeFigures, control: tuple[float, float, float], words: str) -> None:
    assert words in said(with_control(mode, *control))
    assert "came out at" not in said(with_control(mode, 1.01, 0.98, 1.04))


def test_drafters_of_which_some_are_measured_are_not_on_one_footing(mode: ModeFigures) -> None:
    assert "not measured for poor: whole blocks are verified there" in said(mode, measured=("good",))
    assert "not measured" not in said(mode, measured=("good", "poor"))


def test_bundles_on_engines_of_their_own_are_told(mode: ModeFigures) -> None:
    apart = [replace(way, place=int(way.name == "poor")) for way in WAYS]
    assert any("on its own engines" in line for line in caveats([mode], apart, conditions("good"), accuracy=False))


def test_answers_that_were_cut_are_counted(mode: ModeFigures) -> None:
    assert "20 of 20 outputs were cut at 64 tokens" in said(mode, accuracy=True)


@pytest.mark.parametrize(
    ("verified", "rejected", "words"),
    [(0, 0, "good drafted nothing"), (8, 8, "nothing that good drafted was accepted")],
)
def test_drafts_that_show_nothing_are_told(mode: ModeFigures, verified: int, rejected: int, words: str) -> None:
    changed = mode.model_dump()
    good = next(way for way in changed["ways"] if way["way"] == "good")
    good["overall"] |= {"verified": verified, "rejected": rejected}
    assert words in said(ModeFigures.model_validate(changed))
