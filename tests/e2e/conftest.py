"""A place of its own for every test that breaks or builds things."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import Place


@pytest.fixture
def place(tmp_path: Path, tiny_pair: tuple[Path, Path], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, tiny_pair, tiny_bundle, monkeypatch)
