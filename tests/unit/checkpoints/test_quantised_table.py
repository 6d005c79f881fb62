"""`quantization_config`: the table of docs/exporting.md names what is read, and values of no sense are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.quantised.config import READ, READERS, read_scheme

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


CT = {"quant_method": "compressed-tensors"}
WITHOUT_SENSE: list[dict[str, Any]] = [
    {"quant_method": ["fp8"]},
    {"quant_method": None},
    {"quant_method": "fp8", "weight_block_size": "128"},
    CT | {"format": ["pack-quantized"]},
    CT | {"format": "pack-quantized", "config_groups": [4]},
    CT | {"format": "pack-quantized", "config_groups": {"group_0": "int4"}},
    CT | {"format": "pack-quantized", "config_groups": {"group_0": {"weights": {"num_bits": [4]}}}},
    {"quant_method": "awq", "bits": 4, "version": 2},
    {"quant_method": "gptq", "bits": [4]},
    {"quant_method": "modelopt", "quant_algo": {"NVFP4": 1}},
]


@pytest.mark.parametrize("said", WITHOUT_SENSE, ids=str)
def test_values_of_no_sense_are_a_line(said: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="quantised by") as caught:
        read_scheme(tmp_path / "config.json", {"quantization_config": said})
    assert caught.value.hint
