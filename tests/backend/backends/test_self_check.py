"""Exact int8 products are checked where engines are opened, on the processor that runs them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from dspark_engines import Bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.backends.onnxruntime import self_check as module
from dspark_engines.backends.onnxruntime.self_check import SelfCheck, check_kernels, self_check
from dspark_engines.backends.onnxruntime.self_check_graph import GRAPH, self_check_graph, weights
from dspark_engines.errors import BackendError
from tests.support.command_line import run


def test_the_graph_in_the_package_is_the_one_that_the_code_writes() -> None:
    assert onnx.load(GRAPH) == self_check_graph()
    onnx.checker.check_model(self_check_graph(), full_check=False)


def test_the_products_leave_sixteen_bits() -> None:
    """What the check is about: a pair that a kernel may not add in 16 bits."""
    pair = 255 * np.abs(weights().astype(np.int64)) * 2
    assert (pair > np.iinfo(np.int16).max).all()


def test_this_machine_is_exact() -> None:
    found = self_check()
    assert found.exact
    assert found.precise is not check_kernels(precise=False).exact  # asked for only where needed
    assert check_kernels(precise=True).exact


@pytest.mark.parametrize("output", ["integers", "scaled"])
def test_a_saturated_product_is_found(monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    run = module._run

    def saturated(session: object, rows: int) -> dict[str, np.ndarray]:
        outputs = run(session, rows)  # type: ignore[arg-type]
        outputs[output] = outputs[output].clip(-8160, 8160)  # 32 pairs at 2**15 - 1, less the zero point
        return outputs

    monkeypatch.setattr(module, "_run", saturated)
    assert not check_kernels(precise=True).exact


@pytest.mark.parametrize("output", ["rotated", "attended"])
def test_a_row_that_depends_on_the_others_is_found(monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    run = module._run

    def shifted(session: object, rows: int) -> dict[str, np.ndarray]:
        outputs = run(session, rows)  # type: ignore[arg-type]
        outputs[output] = np.nextafter(outputs[output], np.float32(9 if rows == 2 else outputs[output]))
        return outputs

    monkeypatch.setattr(module, "_run", shifted)
    assert not check_kernels(precise=True).row_invariant


def test_engines_that_would_not_be_exact_are_refused(int8: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "self_check", lambda: SelfCheck(precise=True, exact=False, row_invariant=True))
    opening = get_backend("onnxruntime").open(int8, EngineOptions(1))
    with pytest.raises(BackendError, match="does not compute int8 products exactly"), opening:
        pass


def test_rows_that_are_not_invariant_are_warned_of(int8: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "self_check", lambda: SelfCheck(precise=False, exact=True, row_invariant=False))
    with pytest.warns(RuntimeWarning, match="rows DEPEND on their number"):
        module.require_exact_integers(int8)


def test_inspect_says_what_was_found(int8: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert "int8 on this machine" in run(capsys, "inspect", int8.path).out
    assert run(capsys, "inspect", int8.path, "--json").json["self_check"]["exact"]
