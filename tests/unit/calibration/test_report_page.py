"""The page: one file, nothing loaded from anywhere, every picture described, sensible without any measurement."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from dspark_calibration.report import Report
from dspark_calibration.report.page import render, render_comparison
from tests.support.page import Page
from tests.support.reports import sample_report


@pytest.fixture(scope="module")
def report() -> Report:
    return sample_report()


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return render(report)


def test_schema_goes_to_json_and_back(report: Report) -> None:
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert report.model_dump()["schema_version"] == 1
    assert report.model_dump()["ece"].keys() >= {"before", "after"}
    with pytest.raises(ValidationError):
        Report.model_validate(report.model_dump() | {"schema_version": 2})
    with pytest.raises(ValidationError):
        Report.model_validate(report.model_dump() | {"surprise": 1})


def test_the_recipe_is_named_where_there_was_one(report: Report, html: str) -> None:
    assert "a-recipe.toml" in Page(html).text
    old = report.model_dump()
    del old["deployment"]["recipe"], old["deployment"]["recipe_sha256"]
    page = Page(render(Report.model_validate(old)))
    assert "recipe" not in page.text
    assert "None" not in page.text.split("What was deployed")[1]


def test_nothing_comes_from_elsewhere(html: str) -> None:
    page = Page(html)
    assert page.all("script") == []
    sources = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"@import|url\(", html)
    assert page.all("meta")[1]["name"] == "viewport"


def test_pictures_are_described_and_tables_labelled(html: str, report: Report) -> None:
    page = Page(html)
    pictures = page.all("img")
    assert len(pictures) == len(report.positions) + 6
    assert all(len(picture["alt"]) > 20 for picture in pictures)
    assert len({picture["src"] for picture in pictures}) == len(pictures)
    assert page.all("html")[0]["lang"] == "en"
    assert all(cell.get("scope") in {"col", "row"} for cell in page.all("th"))
    regions = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert all(region["aria-label"] and region["tabindex"] == "0" for region in regions)
    assert len(regions) == len(page.all("table"))


def test_it_says_what_the_report_says(html: str, report: Report) -> None:
    text = Page(html).text
    assert report.verdict in text
    assert all(caveat in text for caveat in report.caveats)
    assert report.deployment.bundle in text
    for position in report.positions:
        assert f"{100 * position.before.ece:.2f}%" in text
    assert "<script>alert" not in html  # names are escaped
    assert "&lt;script&gt;" in html


def test_the_same_report_makes_the_same_page(html: str, report: Report) -> None:
    assert render(report) == html


def test_without_costs_and_with_positions_never_reached() -> None:
    report = sample_report(costs=False, rounds=60)
    page = Page(render(report))
    assert "nothing is said about speed" in page.text
    assert len(page.all("img")) == len(report.positions) + 3
    assert "nan" not in page.text.lower().split()


def test_deployments_side_by_side(report: Report) -> None:
    other = sample_report(costs=False)
    html = render_comparison([report, other, report])
    page = Page(html)
    assert "3 deployments compared" in page.text
    assert page.text.count(report.verdict) == 2
    assert "not measured" in page.text
    assert "Costs were measured on different machines" in page.text
    assert len(page.all("img")) == 1
    assert page.all("script") == []
    assert len(Page(render_comparison([other, other])).all("img")) == 0
