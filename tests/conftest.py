"""Fixtures: a tiny pair and its bundle, built once; the real bundle, where it has been built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from dspark_engines.bundle import Limits
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from tests.support import scripted, tiny
from tests.support.triton_worker import Worker

ROOT = Path(__file__).resolve().parent.parent
LIMITS = Limits(context_length=96, prefill_chunk=16, slots=1)
ROOMY = Limits(context_length=256, prefill_chunk=64, slots=1)


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Target and drafter directories; tests must not change them."""
    root = tmp_path_factory.mktemp("pair")
    return tiny.write_target(root / "target"), tiny.write_drafter(root / "drafter")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny pair; tests must not change it."""
    output = tmp_path_factory.mktemp("bundle") / "tiny"
    build_bundle(BuildPlan(*tiny_pair, output, "onnxruntime", LIMITS), Silent())
    return output


@pytest.fixture(scope="session")
def scripted_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the pair whose drafts are all accepted; tests must not change it."""
    root = tmp_path_factory.mktemp("scripted")
    target, drafter = scripted.write_pair(root)
    build_bundle(BuildPlan(target, drafter, root / "bundle", "onnxruntime", ROOMY), Silent())
    return root / "bundle"


@pytest.fixture(scope="session")
def smollm2_bundle() -> Path:
    """The real pair's bundle (`make test` builds it); skips where it has not been built."""
    path = Path(os.environ.get("DSPARK_TEST_BUNDLE", ROOT / "build" / "smollm2"))
    if not (path / "manifest.json").is_file():
        pytest.skip(f"{path} has not been built: make test builds it")
    return path


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Worker]:
    """A process that runs Triton kernels on the CPU."""
    yield from _worker(interpret=True)


@pytest.fixture(scope="session")
def compiler() -> Iterator[Worker]:
    """A process that compiles Triton kernels."""
    yield from _worker(interpret=False)


def _worker(interpret: bool) -> Iterator[Worker]:
    for module in ("triton", "torch"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'dspark-export[dev]'")
    with Worker(interpret) as worker:
        yield worker
