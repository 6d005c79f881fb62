"""docs/exporting.md: every quantisation that is read has a row, and no row says one that is not."""

from __future__ import annotations

import re
from pathlib import Path

from dspark_export.checkpoints.quantised.config import READ, READERS

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "exporting.md").read_text("utf-8")
SECTION = TEXT.split("## Quantised checkpoints")[1].split("\n## ")[0]
METHODS = [line.split("|")[1] for line in SECTION.splitlines() if line.startswith("| `") and "quant_method" not in line]


def test_methods_are_those_that_are_read() -> None:
    named = {re.match(r" `([\w-]+)`", cell) for cell in METHODS}
    assert {match[1] for match in named if match} == set(READERS) - {"compressed-tensors"}
    assert any("compressed-tensors" in cell for cell in METHODS)


def test_the_hint_names_formats_that_have_a_row() -> None:
    cells = " ".join(re.findall(r"compressed-tensors `([\w-]+)`", SECTION))
    for name in re.findall(r"[\w-]+-(?:quantized)", READ):
        assert name in cells
