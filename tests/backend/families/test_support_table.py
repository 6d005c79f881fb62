"""docs/families.md: every family has a row, and every row the tests that it names."""

from __future__ import annotations

import re
from pathlib import Path

from dspark_export.checkpoints.seams import get_family, gguf_architectures
from dspark_export.checkpoints.seams.family import FAMILIES
from tests.backend.families import test_families, test_gguf_families

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "families.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")]


def named(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def test_every_case_is_in_the_table_and_the_other_way_round() -> None:
    cases = {case for row in ROWS if len(row) == 4 for case in named(row[3])}
    assert cases == set(test_families.CASES)


def test_every_family_has_a_row() -> None:
    rows = {row[0]: named(row[1]) for row in reversed(ROWS) if len(row) == 4}
    for name in FAMILIES:
        family = get_family(name)
        assert {*family.architectures, *family.composites} <= rows[name]


def test_every_gguf_architecture_has_a_row() -> None:
    rows = [row for row in ROWS if len(row) == 3][1:]
    assert {re.match(r"`([\w-]+)`", row[0])[1] for row in rows} == set(gguf_architectures())  # type: ignore[index]
    assert {case for row in rows for case in named(row[2])} == set(test_gguf_families.CASES)
