"""The integer ops: function bodies against the oracle, the lowering against the bodies, rows that never mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dspark_engines.backends.onnxruntime.compile import compile_graph
from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.self_check import cpu_settings
from dspark_export.graphs import save_graph
from dspark_export.graphs.writer import GraphWriter
from dspark_plugins.int8_linear import LEVELS, ZERO_POINT
from dspark_plugins.int8_linear.function import (
    call_int8_linear,
    call_quantize_rows,
    int8_linear_function,
    quantize_rows_function,
)
from dspark_plugins.int8_linear.reference import column_scales, int8_linear, quantize_columns, quantize_rows

SHAPES = [(1, 1), (3, 7), (64, 16), (65, 33), (16, 8200), (260, 8200)]  # the last is large enough for the fused kernel


def model(inner: int, outer: int, terms: int, seed: int = 0) -> tuple[ir.Model, np.ndarray]:
    """x [N, K] through both ops; N comes from `lengths`, as in an exported graph."""
    weight = np.random.default_rng(seed).standard_normal((inner, outer)).astype(np.float32)
    w = GraphWriter("linear")
    x = w.input("x", ["N", inner])
    w.input("lengths", ["R"], ir.DataType.INT64)
    w.input("used", ["R"], ir.DataType.INT64)
    rows = call_quantize_rows(w.op, x, terms)
    rows[0].dtype, rows[1].dtype = ir.DataType.UINT8, ir.DataType.FLOAT
    tensors = w.constant("w.int8", quantize_columns(weight)), w.constant("w.scale", column_scales(weight))
    w.output(call_int8_linear(w.op, rows, *tensors, terms), "y", ["N", outer])
    made = w.model()
    for function in (quantize_rows_function(terms), int8_linear_function(terms)):
        made.functions[function.identifier()] = function
    return made, weight


def run(path: Path, x: np.ndarray) -> np.ndarray:
    settings = cpu_settings(1)
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    session = onnxruntime.InferenceSession(path.read_bytes(), settings, providers=["CPUExecutionProvider"])
    fed = {"x": x, "lengths": np.array([len(x)]), "used": np.zeros(1, np.int64)}
    names = {value.name for value in session.get_inputs()}
    (y,) = session.run(["y"], {name: array for name, array in fed.items() if name in names})
    return np.asarray(y)


def both(folder: Path, inner: int, outer: int, terms: int) -> tuple[Path, Path, np.ndarray]:
    """(exported, lowered, weight)."""
    made, weight = model(inner, outer, terms)
    exported, lowered = folder / "exported.onnx", folder / "lowered.onnx"
    save_graph(made, exported)
    onnx.checker.check_model(exported, full_check=True)
    compile_graph(exported, lowered, slots=1)
    assert not any(node.domain == "dspark" for node in onnx.load(lowered, load_external_data=False).graph.node)
    return exported, lowered, weight


@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize(("inner", "outer"), SHAPES)
def test_bodies_and_lowering_equal_the_oracle_to_the_bit(tmp_path: Path, inner: int, outer: int, terms: int) -> None:
    exported, lowered, weight = both(tmp_path, inner, outer, terms)
    x = np.random.default_rng(1).standard_normal((5, inner)).astype(np.float32)
    x[1] *= 1e6
    x[2] = 0.0
    x[3, 0] = 1e4
    rows = quantize_rows(x, terms)
    expected = int8_linear(*rows, quantize_columns(weight), column_scales(weight), terms)
    np.testing.assert_array_equal(run(exported, x), expected)
    np.testing.assert_array_equal(run(lowered, x), expected)


@pytest.mark.parametrize("terms", [1, 2])
def test_a_row_has_one_result_whatever_it_comes_with(tmp_path: Path, terms: int) -> None:
    _, lowered, _ = both(tmp_path, 96, 40, terms)
    x = np.random.default_rng(2).standard_normal((37, 96)).astype(np.float32)
    x[5] *= 1e5
    together = run(lowered, x)
    for size in (1, 2, 8, 16):
        parts = [run(lowered, x[start : start + size]) for start in range(0, len(x), size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


@pytest.mark.parametrize(("terms", "worst"), [(1, 1.1e-2), (2, 6e-5)])
def test_a_second_term_takes_the_outliers_away(terms: int, worst: float) -> None:
    """One entry of 50 among ones of about 1: a row's error in units of its norm, worst of many."""
    x = np.random.default_rng(3).standard_normal((200, 256)).astype(np.float32)
    x[:, 7] = 50.0
    quantized, scale = quantize_rows(x, terms)
    parts = (quantized.astype(np.float32) - ZERO_POINT) * scale
    restored = sum(np.split(parts, terms))
    errors = np.linalg.norm(x - restored, axis=1) / np.linalg.norm(x, axis=1)
    assert errors.max() < worst * 4
    assert errors.max() > worst / 40, "no error at all: this measures nothing"


def test_levels_are_symmetric_and_never_overflow() -> None:
    x = np.array([[-3.0, 3.0, 0.0, 1e-38], [0.0, 0.0, 0.0, 0.0], [5e-31, -1e-30, 0, 0]], np.float32)
    quantized, scale = quantize_rows(x)
    assert quantized[0].tolist() == [ZERO_POINT - LEVELS, ZERO_POINT + LEVELS, ZERO_POINT, ZERO_POINT]
    assert quantized[1].tolist() == [ZERO_POINT] * 4
    assert np.isfinite(scale).all()
    weight = np.array([[1.0, 0.0], [-2.0, 0.0]], np.float32)
    assert quantize_columns(weight).tolist() == [[64, 0], [-127, 0]]
