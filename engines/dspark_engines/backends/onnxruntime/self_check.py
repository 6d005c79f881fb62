"""Does this processor compute what int8 engines promise? A tiny graph of the same kernels says it in milliseconds.

ONNX Runtime chooses its kernels by the processor. Without VNNI instructions its usual int8 kernel adds pairs of
products in 16 bits and saturates; `session.x64quantprecision` asks for another one. That is slower where it is not
needed (with AMX), so it is asked for only where the usual one fails, and then held against the integers as well.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.settings import session_settings
from dspark_engines.bundle import Bundle
from dspark_engines.errors import BackendError
from dspark_engines.machine import processor_name

GRAPH = Path(__file__).with_name("self_check.onnx")
INNER, COLUMNS, CAPACITY = 64, 32, 16
ROWS = 8
FEWER = (1, 2, 3, 5)
"""Numbers of rows that are held against `ROWS`; attention is, from two rows on (a single one is padded to two)."""
USED = 5
Arrays = dict[str, npt.NDArray[Any]]


class SelfCheck(NamedTuple):
    """What was found, and whether with the `precise` kernels.

    `exact`: sums of int8 products are the integers' own. `row_invariant`: what stays in float32 around them (short
    matrix products, attention of two tokens and more) gives a row the same bits whatever their number.
    """

    precise: bool
    exact: bool
    row_invariant: bool

    def describe(self) -> str:
        """In words, for `inspect` and warnings."""
        kernels = "the precise kernels" if self.precise else "the usual kernels"
        exact = f"exact with {kernels}" if self.exact else "NOT exact"
        rows = "rows do not depend on their number" if self.row_invariant else "rows DEPEND on their number"
        return f"{exact}; float32 {rows} ({processor_name()})"


@cache
def self_check() -> SelfCheck:
    """Run the check, once a process: with the usual kernels, and where these are not exact with the precise ones."""
    usual = check_kernels(precise=False)
    return usual if usual.exact else check_kernels(precise=True)


def require_exact_integers(bundle: Bundle) -> None:
    """For bundles in int8. Raises `BackendError` where no kernel is exact; warns where rows are not invariant."""
    found = self_check()
    if not found.exact:
        raise BackendError(
            f"{bundle.path}: ONNX Runtime {onnxruntime.__version__} does not compute int8 products exactly on this "
            f"processor ({processor_name()}): the output would be another model's",
            hint="run it on a processor with VNNI instructions, or build the bundle with --precision fp32",
        )
    if not found.row_invariant:
        message = f"{bundle.path}: {found.describe()}: near-ties may be decided differently with speculation"
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def check_kernels(*, precise: bool) -> SelfCheck:
    """What one kind of kernels computes here."""
    settings = session_settings(1, precise=precise)
    session = onnxruntime.InferenceSession(GRAPH.read_bytes(), settings, providers=["CPUExecutionProvider"])
    whole = _run(session, ROWS)
    exact = _exact(whole, ROWS)
    row_invariant = True
    for rows in FEWER:
        part = _run(session, rows)
        exact = exact and _exact(part, rows)
        row_invariant = row_invariant and _same_rows(part, whole, rows)
    return SelfCheck(precise, exact, row_invariant)


def _run(session: onnxruntime.InferenceSession, rows: int) -> Arrays:
    """Outputs by name for the first `rows` rows, behind `USED` cached positions."""
    random = np.random.default_rng(0)
    values = random.standard_normal((ROWS, INNER)).astype(np.float32)
    past = random.standard_normal((1, 2, CAPACITY, 16)).astype(np.float32)
    end = USED + rows
    feeds = {
        "levels": _levels()[:rows],
        "values": values[:rows],
        "past_key": past,
        "past_value": past,
        "last": np.array([end - 1], np.int32),
        "total": np.array(end, np.int32),
    }
    names = ["integers", "scaled", "rotated", "attended"]
    return dict(zip(names, session.run(names, feeds), strict=True))


def _levels() -> npt.NDArray[np.uint8]:
    """[8, 64]: quantised activations at the ends of their range, then some in between."""
    ends = np.array([[255], [0], [128], [1]], np.uint8)
    between = np.random.default_rng(1).integers(0, 256, (ROWS - len(ends), INNER))
    return np.concatenate([np.repeat(ends, INNER, axis=1), between.astype(np.uint8)])


def _exact(outputs: Arrays, rows: int) -> bool:
    column = np.where(np.arange(COLUMNS) % 2, -127, 127)
    sums = (_levels()[:rows].astype(np.int64) - 128).sum(axis=1)
    expected = np.outer(sums, column)
    return bool((outputs["integers"] == expected).all() and (outputs["scaled"] == expected).all())


def _same_rows(part: Arrays, whole: Arrays, rows: int) -> bool:
    blocks = len(part["rotated"])
    rotated = np.array_equal(part["rotated"], whole["rotated"][:blocks])
    attended = rows < 2 or np.array_equal(part["attended"], whole["attended"][:, :rows])
    return rotated and attended


def cpu_settings(threads: int = 0) -> onnxruntime.SessionOptions:
    """Settings for any session on this processor, with the kernels that are exact on it."""
    return session_settings(threads, precise=self_check().precise)
