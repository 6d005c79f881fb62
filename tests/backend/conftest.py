"""The tiny pair in both precisions."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspark_engines import Bundle
from tests.support.precision import Pair, build


@pytest.fixture(scope="session")
def int8(tiny_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """In int8; tests must not change it."""
    return build(tiny_pair, tmp_path_factory.mktemp("precision") / "bundle", precision="int8")


@pytest.fixture
def exact(tiny_pair: Pair, tmp_path: Path) -> Bundle:
    """In float32, and to be written into."""
    return build(tiny_pair, tmp_path / "exact")
