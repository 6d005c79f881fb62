"""docs/exporting.md: every layout of drafters has a row, and no row is of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspark_export.checkpoints.dialects import drafter_dialects
from dspark_export.checkpoints.dialects.speculators import READERS

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "exporting.md").read_text("utf-8")
TABLE = TEXT.split("## What is read\n")[1].split("\n\n")[0]
ROWS = [line for line in TABLE.splitlines() if line.startswith("| drafter |")]


@pytest.mark.parametrize("name", drafter_dialects())
def test_every_layout_has_a_row(name: str) -> None:
    named = [row for row in ROWS if name in row.split("|")[2]]
    assert len(named) == 1 + (name == "SpecForge")  # which writes DFlash drafters as z-lab does


def test_no_row_is_of_another_layout() -> None:
    assert len(ROWS) == len(drafter_dialects())


def test_the_kinds_of_speculators_are_named() -> None:
    row = next(row for row in ROWS if "speculators" in row)
    assert all(f"`{kind}`" in row for kind in READERS)
