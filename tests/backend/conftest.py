"""The tiny pair in both precisions, and a GPU of plain memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dspark_engines import Bundle
from tests.support.precision import Pair, build
from tests.support.simulated_gpu import SimulatedCuda
from tests.support.simulated_machine import simulated_cuda


@pytest.fixture(scope="session")
def int8(tiny_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """In int8; tests must not change it."""
    return build(tiny_pair, tmp_path_factory.mktemp("precision") / "bundle", precision="int8")


@pytest.fixture
def exact(tiny_pair: Pair, tmp_path: Path) -> Bundle:
    """In float32, and to be written into."""
    return build(tiny_pair, tmp_path / "exact")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedCuda]:
    """The runtime that TensorRT's execution finds."""
    with simulated_cuda(monkeypatch) as runtime:
        yield runtime
