"""Arg-max in two levels: the index that ArgMax gives, ties and all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dspark_engines.backends.onnxruntime.compile import compile_graph
from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.lower_argmax import NARROWEST, WIDEST, tile_width
from dspark_export.graphs import save_graph
from dspark_export.graphs.writer import GraphWriter

VOCABULARY, TILE = 1024, 512


def head(columns: int) -> ir.Model:
    """draft_logits [R, V] and the index of their largest."""
    w = GraphWriter("head", {})
    x = w.input("x", ["R", columns])
    w.input("lengths", ["R"], ir.DataType.INT64)
    w.input("used", ["R"], ir.DataType.INT64)
    w.output(w.op.Identity(x), "draft_logits", ["R", columns])
    w.output(w.op.ArgMax(x, axis=-1, keepdims=0), "draft_ids", ["R"], ir.DataType.INT64)
    return w.model()


def compiled(folder: Path, columns: int) -> Path:
    exported, path = folder / "exported.onnx", folder / "compiled.onnx"
    save_graph(head(columns), exported)
    compile_graph(exported, path, slots=1)
    return path


def largest(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    unread = np.ones(1, np.int64)
    fed = {"x": x, "lengths": unread, "used": unread}
    (ids,) = session.run(["draft_ids"], {name: fed[name] for name in names})
    return np.asarray(ids)


@pytest.mark.parametrize(
    ("columns", "width"),
    [
        (49152, 512),
        (151936, 128),
        (1024, 512),
        (64, 64),
        (63, 0),
        (509, 509),
        (1021, 0),
        (0, 0),
    ],
)
def test_tiles_divide_the_vocabulary(columns: int, width: int) -> None:
    assert tile_width(columns) == width
    assert not width or (columns % width == 0 and NARROWEST <= width <= WIDEST)


def test_the_first_of_the_largest_wins(tmp_path: Path) -> None:
    path = compiled(tmp_path, VOCABULARY)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("ArgMax") == 2, "not lowered"
    places = [[0], [VOCABULARY - 1], [TILE - 1, TILE], [TILE, TILE + 1], [3, TILE + 3], [TILE - 1], [TILE], [700, 90]]
    x = np.full((len(places) + 3, VOCABULARY), -2.0, np.float32)
    for row, tied in enumerate(places):
        x[row, tied] = 5.0
    x[-2], x[-1] = -np.inf, np.random.default_rng(0).integers(0, 4, VOCABULARY)
    expected = x.argmax(axis=1)
    assert expected[: len(places)].tolist() == [min(tied) for tied in places]
    np.testing.assert_array_equal(largest(path, x), expected)
    for row, index in enumerate(expected):
        assert largest(path, x[row : row + 1]).tolist() == [index]


def test_random_rows(tmp_path: Path) -> None:
    path = compiled(tmp_path, VOCABULARY)
    x = np.random.default_rng(1).standard_normal((200, VOCABULARY), np.float32)
    np.testing.assert_array_equal(largest(path, x), x.argmax(axis=1))


@pytest.mark.parametrize("columns", [1021, 63])
def test_without_a_tile_nothing_changes(columns: int, tmp_path: Path) -> None:
    path = compiled(tmp_path, columns)
    assert [node.op_type for node in onnx.load(path).graph.node].count("ArgMax") == 1
    x = np.random.default_rng(2).standard_normal((9, columns), np.float32)
    np.testing.assert_array_equal(largest(path, x), x.argmax(axis=1))
