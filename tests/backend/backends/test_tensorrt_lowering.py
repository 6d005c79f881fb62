"""TensorRT's lowered graphs against the exported ones, run by ONNX Runtime; half precision as the graph says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from dspark_engines.backends.padded.lowering import lower_graph
from dspark_engines.backends.padded.shapes import StepShape
from dspark_engines.bundle import Bundle
from dspark_export.checks import compare, compare_engines
from tests.backend.backends.test_engines import build, draft, step_in_company, verify
from tests.support import tiny
from tests.support.lowered import lowered_bundle

FLOAT, FLOAT16, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(tmp_path_factory.mktemp("lowering"), 4, kind="rnn")


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize(
    ("architecture", "kind"), [("llama", "none"), ("llama", "vanilla"), ("llama", "gated"), ("qwen3", "rnn")]
)
def test_lowered_graphs_compute_what_the_exported_ones_say(
    architecture: str, kind: str, slots: int, tmp_path: Path
) -> None:
    bundle = build(tmp_path, slots, architecture=architecture, kind=kind)
    results = compare_engines(bundle, lowered_bundle(bundle, tmp_path))
    assert len(results) == 20
    assert all(result.passed for result in results), results


def test_rows_in_changing_company(bundle: Bundle, tmp_path: Path) -> None:
    one, other = lowered_bundle(bundle, tmp_path), lowered_bundle(bundle, tmp_path)
    step_in_company(one, other, greedy_logits=False)


def test_a_step_costs_what_its_tokens_do(bundle: Bundle, tmp_path: Path) -> None:
    """Narrow rows share one launch of the next bucket; a long row has its own, and only the logits it asks for."""
    engines = lowered_bundle(bundle, tmp_path)
    runner = engines.verify._runner  # type: ignore[attr-defined]
    slots = [engines.verify.new_slot() for _ in range(3)]
    lengths, used = np.array([1, 40, 2]), np.zeros(3, np.int64)
    out = engines.verify.step(slots, np.arange(43) % tiny.VOCAB, lengths, used, np.array([0, 40, 42]))
    assert out.logits.shape == (3, tiny.VOCAB)
    assert out.features.shape[0] == 43
    assert [(shape.tokens, first) for shape, first in runner.launches] == [(16, 1), (16, 1), (8, 1), (4, 0)]
    assert runner.launches[-1][0] == StepShape(4, 4, tiny.BLOCK + 1)


def test_no_step_writes_past_its_cache(bundle: Bundle, tmp_path: Path) -> None:
    """The last cell of a context, with a full block and a filled-up shape behind it."""
    engines, context = lowered_bundle(bundle, tmp_path), bundle.manifest.limits.context_length
    slot, other = engines.verify.new_slot(), engines.draft.new_slot()
    text = np.arange(context) % tiny.VOCAB
    whole = verify(engines, [slot], [text.tolist()], [0])[0]
    last = verify(engines, [slot], [text[-1:].tolist()], [context - 1])[0]
    assert compare("target.logits", last[0], whole[0][-1:]).passed
    ids, confidence, _ = draft(engines, [other], [whole[1]], [0], [0])[0]
    again = draft(engines, [other], [whole[1][-1:]], [context - 1], [0])[0]
    assert (ids.shape, confidence.shape) == ((tiny.BLOCK,), (tiny.BLOCK,))
    assert compare("drafter.confidence_logits", again[1][:1], confidence[:1]).passed


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_stays_near(bundle: Bundle, tmp_path: Path, precision: str) -> None:
    """Rounded where the graph says, against the same steps in float32."""
    half, full = (lowered_bundle(bundle, tmp_path, p) for p in (precision, "fp32"))  # type: ignore[arg-type]
    error = 2.0**-10 if precision == "fp16" else 2.0**-7
    text = np.random.default_rng(3).integers(0, tiny.VOCAB, 12).tolist()
    logits = [verify(engines, [engines.verify.new_slot()], [text], [0])[0] for engines in (half, full)]
    for ours, exact in zip(*logits, strict=True):
        difference = np.abs(ours - exact).max() / np.abs(exact).max()
        assert 0 < difference < 4 * error, "nothing was rounded, or too much"


@pytest.mark.parametrize(("precision", "half"), [("fp16", FLOAT16), ("bf16", BFLOAT16)])
def test_what_is_rounded_and_what_is_not(bundle: Bundle, precision: str, half: ir.DataType) -> None:
    onnx = bundle.path / "onnx"
    for source in ("target.onnx", "drafter.onnx"):
        graph = lower_graph(onnx / source, 64, precision).graph  # type: ignore[arg-type]
        used = {name: value.dtype for name, value in graph.initializers.items() if value.uses()}
        for name, dtype in used.items():
            linear = name.startswith("layers.") and "norm" not in name
            table = name.startswith(("embed_tokens", "lm_head", "markov_head.markov_w"))
            expected = half if linear else FLOAT16 if table else None
            assert dtype == expected or (expected is None and dtype not in (FLOAT16, BFLOAT16)), name
        interface = {value.name: value.dtype for value in [*graph.inputs, *graph.outputs]}
        assert {dtype for name, dtype in interface.items() if "_cache" in str(name)} == {half}
        assert not {FLOAT16, BFLOAT16} & {dtype for name, dtype in interface.items() if "_cache" not in str(name)}
        assert {node.domain for node in graph} == {""}
        assert "If" not in {node.op_type for node in graph}
    assert "fc.weight" in used
    assert used["fc.weight"] == FLOAT  # taps spike beyond what half precision holds
