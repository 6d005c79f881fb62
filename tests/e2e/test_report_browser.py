"""The report in a real browser, on a desk and on a phone: no console error, nothing cut off, every picture there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dspark_calibration.report.page import render, render_comparison
from dspark_export.evaluating.page import render as render_evaluation
from tests.support.browser import find_browser, look
from tests.support.evaluations import sample_evaluation
from tests.support.reports import sample_report


@pytest.fixture(scope="module")
def browser() -> str:
    found = find_browser()
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return found


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    report = sample_report()
    return {
        "report": render(report),
        "comparison": render_comparison([report, sample_report(costs=False)]),
        "evaluation": render_evaluation(sample_evaluation(sampled=True)),
    }


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["report", "comparison", "evaluation"])
def test_a_page_opens(browser: str, pages: dict[str, str], tmp_path: Path, name: str, width: int) -> None:
    seen = look(browser, pages[name], tmp_path / "look", width)
    assert seen.errors == []
    probe = seen.probe
    assert probe["width"] == width
    assert probe["needed"] <= width, "the page scrolls sideways"
    assert probe["cut"] == []
    assert (probe["broken"], probe["small"]) == (0, 0)
    assert probe["images"] == pages[name].count("<img")
    assert probe["text"] > 500
    assert 500 < probe["height"] < 30_000
    assert ink(seen.picture, width, probe["height"]) > 0.02


def ink(picture: Path, width: int, height: int) -> float:
    """Share of the page that is not white, as far as the picture goes."""
    from PIL import Image  # comes with matplotlib

    pixels = np.asarray(Image.open(picture).convert("L"))[:height, :width]
    return float((pixels < 200).mean())
