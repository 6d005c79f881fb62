"""Rotations before int8 layers: when they are chosen, what they gain, and that graphs and engines agree with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dspark_engines import Bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_export.checks import compare_engines
from dspark_export.checks.precision.layer_errors import LayerError, layer_errors
from dspark_export.quantization import LayerPlan, planning
from dspark_export.quantization.layers import LinearLayer
from dspark_export.quantization.rotation import BLOCKS, block_size, hadamard, rotated, rotated_back
from tests.support import tiny
from tests.support.precision import ONE, Pair, build

SPIKE = 50.0


def rows(width: int, spike: float = SPIKE) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((64, width)).astype(np.float32)
    x[:, 7] += spike
    return x


def layer(width: int) -> LinearLayer:
    """One layer whose input comes from no norm."""
    x, weight = ir.Value(name="x"), ir.Value(name="w", const_value=ir.tensor(np.ones((width, 8), np.float32)))
    return LinearLayer(ir.node("MatMul", [x, weight]), x, weight, transposed=False)


@pytest.mark.parametrize(
    ("width", "size"), [(32, 32), (576, 32), (9728, 32), (16, 16), (48, 16), (8, 0), (40, 0), (1, 0), (33, 0)]
)
def test_the_largest_block_that_fits(width: int, size: int) -> None:
    assert block_size(width) == size


@pytest.mark.parametrize("size", [*BLOCKS, 0])
def test_a_rotation_is_undone_exactly_by_its_weight(size: int) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (5, 96)).astype(np.float32)
    weight = np.random.default_rng(1).integers(-9, 9, (96, 7)).astype(np.float32)
    np.testing.assert_array_equal(rotated(x, size) @ rotated_back(weight, size), x @ weight)
    if size:
        np.testing.assert_array_equal(hadamard(size) @ hadamard(size), size * np.eye(size))
        assert np.abs(rotated(np.eye(96, dtype=np.float32), size)).max() == 1


@pytest.mark.parametrize(
    ("width", "spike", "rotation", "terms"),
    [(320, 0.0, 0, 1), (320, SPIKE, 32, 1), (336, SPIKE, 16, 1), (328, SPIKE, 0, 2), (320, 1e5, 0, 1)],
    ids=["no outliers", "outliers", "a smaller block", "no block fits", "nothing but the outlier"],
)
def test_what_a_layer_gets(width: int, spike: float, rotation: int, terms: int) -> None:
    plan = planning._plan([layer(width)], rows(width, spike), {}, planning.LARGEST_ERROR)
    assert (plan.rotation, plan.terms) == (rotation, terms)
    assert (plan.error <= planning.LARGEST_ERROR) == (terms == 1)


def test_a_weight_that_is_rotated_already_decides() -> None:
    given = LayerPlan(rotation=16)
    assert planning._plan([layer(320)], rows(320, 0.0), {"w": given}, planning.LARGEST_ERROR).rotation == 16
    plan = planning._plan([layer(320)], rows(320), {"w": LayerPlan()}, planning.LARGEST_ERROR)
    assert plan[2:] == (0, pytest.approx(1.5e-3, rel=0.2), 2)


@pytest.fixture
def all_rotated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer seems to need its rotation, and nothing more."""
    sizes: list[int] = []

    def rotate(x: np.ndarray, size: int) -> np.ndarray:
        sizes.append(size)
        return rotated(x, size)

    monkeypatch.setattr(planning, "rotated", rotate)
    monkeypatch.setattr(planning, "_error", lambda x: 0.0 if sizes[-1] else 1.0)


def test_graphs_engines_and_report_agree(
    tiny_pair: Pair, exact: Bundle, int8: Bundle, tmp_path: Path, all_rotated: None
) -> None:
    """Joined rows and the shared output table of the drafter included."""
    made = build(tiny_pair, tmp_path / "rotated", precision="int8")
    for graph, layers in (("target", 4 * tiny.LAYERS + 1), ("drafter", None)):
        model = onnx.load(made.file(f"onnx/{graph}.onnx"), load_external_data=False).graph
        matrices = {tensor.name for tensor in model.initializer if tensor.name.startswith("rotation.")}
        products = [node for node in model.node if matrices.intersection(node.input)]
        assert len(products) == layers if layers else products
    with get_backend("onnxruntime").open(made, ONE) as engines:
        comparisons = compare_engines(made, engines)
    assert all(c.passed for c in comparisons), [c for c in comparisons if not c.passed]
    ours, plain = errors(exact, made), errors(exact, int8)
    assert ours.keys() == plain.keys()
    for name, error in ours.items():
        assert error.terms == 1
        assert error.output_error < 0.02, name
    assert ours != plain, "nothing was rotated"


def test_a_rotated_row_is_the_same_to_the_bit_in_any_company(
    tiny_pair: Pair, tmp_path: Path, all_rotated: None
) -> None:
    made, tokens = build(tiny_pair, tmp_path / "rotated", precision="int8"), np.arange(4, 64)
    found = []
    for threads, chunks in ((1, [1] * 60), (1, [60]), (2, [7, 1, 2, 50]), (3, [1, 16, 43])):
        with get_backend("onnxruntime").open(made, EngineOptions(threads)) as engines:
            slot, used, parts = engines.verify.new_slot(), 0, []
            for count in chunks:
                step = tokens[used : used + count]
                out = engines.verify.step([slot], step, np.array([count]), np.array([used]), np.arange(count))
                parts.append(np.concatenate([out.logits, out.features], axis=1))
                used += count
            found.append(np.concatenate(parts))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def errors(exact: Bundle, other: Bundle) -> dict[str, LayerError]:
    by_graph = layer_errors(exact.file("onnx"), other.file("onnx"), tiny.VOCAB, tiny.BLOCK)
    return {each.layer: each for found in by_graph.values() for each in found}
