"""int8 on a processor without VNNI: a few tests run again under emulation of one that has AVX2 and nothing newer.

About two minutes on two cores. Needs qemu-user: apt-get install qemu-user.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EMULATOR, PROCESSOR = "qemu-x86_64", "Haswell"
SECONDS = 300
KERNELS = """
from dspark_engines.backends.onnxruntime.self_check import check_kernels, self_check
print(check_kernels(precise=False).exact, check_kernels(precise=True).exact, self_check().precise)
"""

pytestmark = [
    pytest.mark.emulated,
    pytest.mark.skipif(
        shutil.which(EMULATOR) is None, reason=f"{EMULATOR} is not installed: apt-get install qemu-user"
    ),
    pytest.mark.skipif(sys.platform != "linux", reason="emulates a Linux process"),
]


def emulated(*arguments: str) -> str:
    """Standard output of this Python with `arguments`, as a process on the emulated processor."""
    command = [EMULATOR, "-cpu", PROCESSOR, sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def test_the_usual_int8_kernels_saturate_there_and_the_precise_ones_do_not() -> None:
    """The fact of ONNX Runtime that engines lean on."""
    assert emulated("-c", KERNELS).split() == ["False", "True", "True"]


@pytest.mark.parametrize(
    "chosen",
    [
        "tests/backend/backends/test_self_check.py::test_this_machine_is_exact",
        "tests/backend/ops/test_int8_linear.py",
        "tests/backend/bundling/test_int8_bundle.py::test_a_step_is_the_same_to_the_bit_whatever_shares_it",
    ],
)
def test_what_int8_promises_holds_there(chosen: str) -> None:
    shown = emulated("-m", "pytest", "-q", "-p", "no:cacheprovider", chosen)
    assert " passed" in shown
    assert "skipped" not in shown
