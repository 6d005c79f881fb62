"""A process of its own for Triton: whether it interprets kernels or compiles them is settled when it is imported.

    with Worker(interpret=True) as worker:
        worker.call("tests.support.kernel_runs:markov", arguments)

The process imports what it is told to call; arguments and results are pickled. An exception there is raised here, with
the text that it had there.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("", "plugins", "engines", "calibration", "benchmarks")


class WorkerError(RuntimeError):
    """What was called raised, or the process died."""


class Worker:
    """One process; calls run one after the other."""

    def __init__(self, interpret: bool) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
        environment |= {"TRITON_INTERPRET": "1"} if interpret else {}
        path = [str(ROOT / package) for package in PACKAGES] + [os.environ.get("PYTHONPATH", "")]
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, path)), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.triton_worker"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def call(self, function: str, *arguments: Any, **named: Any) -> Any:
        """`function` is "module:name". Raises `WorkerError`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            pickle.dump((function, arguments, named), self.process.stdin)
            self.process.stdin.flush()
            fine, result = pickle.load(self.process.stdout)
        except (BrokenPipeError, EOFError) as error:
            raise WorkerError(f"{function}: the process ended with {self.process.wait()}") from error
        if not fine:
            raise WorkerError(result)
        return result

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def serve() -> None:
    """Answer calls until the other side closes the pipe; what is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            function, arguments, named = pickle.load(sys.stdin.buffer)
        except EOFError:
            os._exit(0)  # not by way of the native libraries' own endings: TensorRT's can hang without a GPU
        try:
            module, name = function.split(":")
            answer = (True, getattr(importlib.import_module(module), name)(*arguments, **named))
        except Exception:
            answer = (False, traceback.format_exc())
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    serve()
