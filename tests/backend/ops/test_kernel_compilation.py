"""Every kernel compiles and assembles for four architectures without a GPU, without spills, with the node's parameters.

The fast tests give each architecture a quarter of the kernels, and the one that reads W2 to all of them; the slow test
compiles everything for everything. `benchmarks/kernel_report.py` prints the same as a table.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.triton_worker import Worker, WorkerError

ARCHITECTURES = (80, 90, 100, 120)
OPS = (
    *("MarkovMixGated", "MarkovMixRnn", "MarkovScoresGreedy", "MarkovScores", "MarkovPickGreedy", "MarkovPick"),
    *("AcceptScan", "AcceptPrefix", "AcceptWeigh", "AcceptDraw", "AcceptScanGreedy", "AcceptPrefixGreedy"),
)
REGISTERS = 255
"""What a thread can have; with none spilled, more cannot be."""
SHARED = 48 * 1024
PTX = 300_000


def assert_bounded(kernel: dict[str, Any]) -> None:
    assert kernel["spilled"] == 0, kernel
    assert 0 < kernel["registers"] <= REGISTERS, kernel
    assert kernel["registers"] * kernel["threads"] <= 65536, kernel  # or not one program fits a multiprocessor
    assert 0 < kernel["shared"] <= SHARED, kernel
    assert kernel["ptx"] < PTX, kernel
    assert kernel["cubin"] > 1000, kernel
    assert kernel["declared"] == kernel["passed"], kernel


@pytest.mark.parametrize(
    ("op", "architecture"),
    [(op, ARCHITECTURES[at % 4]) for at, op in enumerate(OPS)] + [("MarkovScores", sm) for sm in (80, 90, 100)],
)
def test_a_kernel_fits(compiler: Worker, op: str, architecture: int) -> None:
    assert_bounded(compiler.call("tests.support.kernel_builds:build", op, architecture))


@pytest.mark.parametrize("weights", ["fp32", "bf16"])
def test_the_kernel_for_many_rows_fits(compiler: Worker, weights: str) -> None:
    assert_bounded(compiler.call("tests.support.kernel_builds:build", "MarkovScores", 80, 128, weights))


@pytest.mark.slow
def test_every_kernel_fits_every_architecture(compiler: Worker) -> None:
    kernels = compiler.call("tests.support.kernel_builds:build_all", ARCHITECTURES)
    assert {kernel["kernel"] for kernel in kernels} == set(OPS)
    assert {kernel["architecture"] for kernel in kernels} == set(ARCHITECTURES)
    for kernel in kernels:
        assert_bounded(kernel)


def test_what_cannot_be_compiled_is_refused(compiler: Worker) -> None:
    assert not compiler.call("tests.support.kernel_runs:interpreted")
    with pytest.raises(WorkerError, match="input table is fp8, which is none of fp32, fp16, bf16"):
        compiler.call("tests.support.kernel_builds:build", "MarkovScores", 90, weights="fp8")
