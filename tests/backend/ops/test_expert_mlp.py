"""`dspark::ExpertMlp`: the function body and ONNX Runtime's lowering against the NumPy oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dspark_engines.backends.onnxruntime.compile import compile_graph
from dspark_export.graphs.writer import GraphWriter
from dspark_plugins.expert_mlp import ExpertMlpSpec
from dspark_plugins.expert_mlp.function import expert_mlp_function
from dspark_plugins.expert_mlp.reference import expert_mlp
from tests.support import one_node

EXPERTS, CHOSEN, HIDDEN, INNER = 6, 2, 16, 24
SPECS = {
    "plain": ExpertMlpSpec(),
    "biased": ExpertMlpSpec(biased=True),
    "as Gemma 4": ExpertMlpSpec(activation="gelu_tanh"),
    "as gpt-oss": ExpertMlpSpec(biased=True, alpha=1.702, limit=0.5, up_offset=1.0),
}


def feeds_for(spec: ExpertMlpSpec, tokens: int, chosen: np.ndarray | None = None) -> dict[str, np.ndarray]:
    random = np.random.default_rng(tokens)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    if chosen is None:
        chosen = np.array([random.permutation(EXPERTS)[:CHOSEN] for _ in range(tokens)], np.int64).reshape(-1, CHOSEN)
    weights = [normal(EXPERTS, 2 * INNER, HIDDEN) / 4, normal(EXPERTS, HIDDEN, INNER) / 4]
    biases = [normal(EXPERTS, 2 * INNER), normal(EXPERTS, HIDDEN)] if spec.biased else []
    values = [normal(tokens, HIDDEN), np.abs(normal(tokens, CHOSEN)), chosen, *weights, *biases]
    return dict(zip(spec.inputs(), values, strict=True))


def model_of(spec: ExpertMlpSpec) -> ir.Model:
    """The op, behind what the lowering wants of any graph of ours."""
    w, shapes = GraphWriter("experts"), {name: list(value.shape) for name, value in feeds_for(spec, 1).items()}
    for name in ("x", "shares", "chosen"):
        shapes[name][0] = "N"  # type: ignore[call-overload]
    inputs = [w.input(name, shape, ir.DataType.INT64 if name == "chosen" else ir.DataType.FLOAT)
              for name, shape in shapes.items()]  # fmt: skip
    for name in ("row_lengths", "used"):
        w.input(name, ["R"], ir.DataType.INT64)
    y = w.op.call(expert_mlp_function(spec), *inputs, **spec.attributes())
    w.output(w.op.Identity(y), "y", ["N", HIDDEN])
    return w.model()


def run(session: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    asked = {value.name for value in session.get_inputs()}
    row = {name: np.ones(1, np.int64) for name in ("row_lengths", "used")}
    (y,) = session.run(["y"], {name: value for name, value in (feeds | row).items() if name in asked})
    return np.asarray(y)


@pytest.fixture(scope="module", params=SPECS)
def forms(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(spec, the body's session, the lowered one's)."""
    spec, folder = SPECS[request.param], tmp_path_factory.mktemp("experts")
    model = model_of(spec)
    body = one_node.session(model)
    onnx.save(ir.to_proto(model), folder / "op.onnx")
    compile_graph(folder / "op.onnx", folder / "lowered.onnx", slots=1)
    return spec, body, one_node.session(folder / "lowered.onnx")


@pytest.mark.parametrize("tokens", [0, 1, 7, 40])
def test_both_forms_match_the_oracle(forms: Any, tokens: int) -> None:
    spec, body, lowered = forms
    feeds = feeds_for(spec, tokens)
    expected = expert_mlp(spec, *feeds.values())
    for session in (body, lowered):
        np.testing.assert_allclose(run(session, feeds), expected, rtol=0, atol=2e-5)


def test_all_tokens_may_choose_alike(forms: Any) -> None:
    spec, body, lowered = forms
    feeds = feeds_for(spec, 5, np.tile(np.array([[4, 1]], np.int64), (5, 1)))
    for session in (body, lowered):
        np.testing.assert_allclose(run(session, feeds), expert_mlp(spec, *feeds.values()), rtol=0, atol=2e-5)


def test_the_lowering_reads_no_expert_that_nobody_chose(forms: Any) -> None:
    spec, _, lowered = forms
    feeds = feeds_for(spec, 3, np.array([[0, 2], [2, 0], [0, 3]], np.int64))
    expected = expert_mlp(spec, *feeds.values())
    for name in spec.inputs()[3:]:
        feeds[name][[1, 4, 5]] = np.nan
    np.testing.assert_allclose(run(lowered, feeds), expected, rtol=0, atol=2e-5)
