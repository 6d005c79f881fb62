"""The page: one file, nothing loaded from anywhere, every picture described, every difference in it."""

from __future__ import annotations

import pytest

from dspark_export.evaluating.page import render
from dspark_export.evaluating.records import Parting
from dspark_export.evaluating.schema import Evaluation
from tests.support.evaluations import sample_evaluation
from tests.support.page import Page

TIE = Parting(position=3, plain=5, speculative=6, gap=2e-5, tie=True)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return sample_evaluation(parting=TIE, sampled=True)


@pytest.fixture(scope="module")
def html(evaluation: Evaluation) -> str:
    return render(evaluation)


def test_nothing_comes_from_elsewhere_and_everything_is_described(html: str) -> None:
    page = Page(html)
    assert page.all("script") == []
    sources = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert all(source.startswith("data:") for source in sources)
    pictures = page.all("img")
    assert len(pictures) == 2 * 5  # two modes: speeds, lengths, positions, two of pairs
    assert all(len(picture["alt"]) > 20 for picture in pictures)
    assert all(cell.get("scope") in {"col", "row"} for cell in page.all("th"))
    regions = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert len(regions) == len(page.all("table"))
    assert len({region["aria-label"] for region in regions}) == len(regions)


def test_it_says_what_the_evaluation_says(html: str, evaluation: Evaluation) -> None:
    text = Page(html).text
    assert evaluation.verdict in text
    assert all(caveat in text for caveat in evaluation.caveats)
    for mode in evaluation.modes:
        assert all(finding[1:] in text for finding in mode.findings)
    assert "11 of 12, 1 ties" in text
    assert "2e-05" in text
    assert "&lt;script&gt;" in html  # names are escaped
    assert "<script>" not in html


def test_one_drafter_and_one_prompt_make_a_page_too() -> None:
    evaluation = sample_evaluation(prompts=1)
    page = Page(render(evaluation))
    assert "can tell nothing apart" in page.text
    assert "nan" not in page.text.lower().split()


def test_the_same_evaluation_makes_the_same_page(html: str, evaluation: Evaluation) -> None:
    assert render(evaluation) == html
