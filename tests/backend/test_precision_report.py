"""The precision report: nothing between a bundle and itself, a spoiled layer is the worst, the command's verdict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from dspark_engines import Bundle, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Limits, Manifest
from dspark_engines.errors import BackendError, CheckpointError
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.quantization import report as reports
from dspark_export.quantization.divergence import Divergence, measure_divergence
from dspark_export.quantization.layer_errors import LayerError, layer_errors
from dspark_export.quantization.report import PrecisionReport, worst_layers
from dspark_export.verification.origin import find_origin
from tests.support import tiny
from tests.support.command_line import run

LIMITS, ONE = Limits(context_length=96, prefill_chunk=16, slots=1), EngineOptions(threads=1)
Pair = tuple[Path, Path]


def build(pair: Pair, output: Path, **plan: Any) -> Bundle:
    build_bundle(BuildPlan(*pair, output, "onnxruntime", LIMITS, **plan), Silent())
    return open_bundle(output)


@pytest.fixture(scope="module")
def int8(tiny_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(tiny_pair, tmp_path_factory.mktemp("precision") / "bundle", precision="int8")


@pytest.fixture
def exact(tiny_pair: Pair, tmp_path: Path) -> Bundle:
    """In float32, and to be written into."""
    return build(tiny_pair, tmp_path / "exact")


def diverge(reference: Bundle, other: Bundle, texts: list[list[int]], chunk: int = 7) -> Divergence:
    backend = get_backend("onnxruntime")
    with backend.open(reference, ONE) as a, backend.open(other, ONE) as b:
        return measure_divergence(a.verify, b.verify, texts, chunk, lambda done, total: None)


TEXTS = [np.random.default_rng(n).integers(4, 100, n).tolist() for n in (1, 7, 8, 40)]


def test_a_bundle_does_not_diverge_from_itself(exact: Bundle) -> None:
    same = diverge(exact, exact, TEXTS)
    assert same.tokens == 56
    assert (same.kl, same.kl_99, same.kl_max, same.top1) == (0.0, 0.0, 0.0, 1.0)
    assert same.perplexity == same.perplexity_reference
    assert same.perplexity > 2


def test_divergence_is_that_of_the_definition(exact: Bundle, int8: Bundle) -> None:
    """One text in one step, in the plainest form; in chunks it is the same."""
    text = TEXTS[-1]
    probabilities = []
    for bundle in (exact, int8):
        with get_backend("onnxruntime").open(bundle, ONE) as engines:
            out = engines.verify.step(
                [engines.verify.new_slot()], np.array(text), np.array([40]), np.array([0]), np.arange(40)
            )
            exp = np.exp(out.logits.astype(np.float64))
            probabilities.append(exp / exp.sum(axis=1, keepdims=True))
    p, q = probabilities
    kl = (p * np.log(p / q)).sum(axis=1)
    for chunk in (64, 40, 7, 1):
        found = diverge(exact, int8, [text], chunk)
        assert found.kl == pytest.approx(kl.mean(), rel=1e-3)
        assert found.kl_max == pytest.approx(kl.max(), rel=1e-3)
        assert found.top1 == (p.argmax(1) == q.argmax(1)).mean()
        perplexity = math.exp(-np.mean([math.log(q[i, text[i + 1]]) for i in range(39)]))
        assert found.perplexity == pytest.approx(perplexity, rel=1e-5)
        assert found.perplexity != found.perplexity_reference


def test_a_text_of_one_token_has_no_perplexity(exact: Bundle) -> None:
    assert diverge(exact, exact, [[5]])[-2:] == (1.0, 1.0)


def test_logits_that_are_not_finite_are_refused(exact: Bundle) -> None:
    class Broken:
        def new_slot(self) -> None: ...

        def step(self, *_: object) -> Any:
            return type("Output", (), {"logits": np.array([[0.0, np.nan]], np.float32)})

    with pytest.raises(BackendError, match="not finite"):
        measure_divergence(Broken(), Broken(), [[5]], 7, lambda done, total: None)  # type: ignore[arg-type]


def errors(exact: Bundle, int8: Bundle) -> dict[str, LayerError]:
    by_graph = layer_errors(exact.file("onnx"), int8.file("onnx"), tiny.VOCAB, tiny.BLOCK)
    return {layer.layer: layer for layers in by_graph.values() for layer in layers}


def test_every_layer_is_there_and_loses_a_little(exact: Bundle, int8: Bundle) -> None:
    found = errors(exact, int8)
    assert len([name for name in found if name.startswith("target.")]) == 4 * tiny.LAYERS + 1
    assert {"target.embed_tokens", "drafter.lm_head", "drafter.markov_head.markov_w2"} <= found.keys()
    assert "drafter.fc" not in found
    for layer in found.values():
        assert layer.terms == 1
        assert 1e-6 < layer.input_lost < 3e-4
        assert 0.003 < layer.output_error < 0.02
        assert 0 < layer.damage <= layer.output_error**2 * 1.5
    assert found["target.layers.0.mlp.gate_up_proj"].smoothed
    assert not found["target.layers.0.mlp.down_proj"].smoothed


@pytest.mark.parametrize("kind", ["none", "gated", "rnn"])
def test_other_heads(kind: str, tmp_path: Path) -> None:
    pair = tiny.write_target(tmp_path / "target"), tiny.write_drafter(tmp_path / "drafter", tiny.drafter_spec(kind))
    found = errors(build(pair, tmp_path / "exact"), build(pair, tmp_path / "int8", precision="int8"))
    assert ("drafter.markov_head.markov_w2" in found) == (kind != "none")
    assert all(layer.terms and layer.output_error < 0.02 for layer in found.values())


def test_an_output_table_that_both_share_serves_both(
    tiny_pair: Pair, exact: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smoothed for the target, it needs the same factors in front of the drafter's, whose norm is another one."""
    monkeypatch.setattr("dspark_export.graphs.save.SMALL", 256)  # a tiny table would be copied, not shared
    bundle = build(tiny_pair, tmp_path / "shared", precision="int8")
    graph = onnx.load(bundle.file("onnx/drafter.onnx"), load_external_data=False).graph
    table = next(tensor for tensor in graph.initializer if tensor.name == "lm_head.weight.int8")
    assert {entry.value for entry in table.external_data} >= {"target.onnx.data"}
    found = errors(exact, bundle)
    assert found["drafter.lm_head"].smoothed
    assert found["drafter.lm_head"].output_error < 0.02
    assert found["target.embed_tokens"].output_error < 0.02


def test_second_terms_and_kept_layers_are_seen(
    tiny_pair: Pair, exact: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspark_export.quantization.planning.LARGEST_ERROR", 0.0)
    kept = "target.layers.2.mlp.down_proj"
    found = errors(exact, build(tiny_pair, tmp_path / "two", precision="int8", keep=(kept,)))
    assert found.pop(kept) == LayerError(kept, 0, False, 0.0, 0.0, 0.0)
    assert found.pop("drafter.markov_head.markov_w2").terms == 1
    assert {layer.terms for layer in found.values()} == {2}
    assert max(layer.input_lost for layer in found.values()) < 1e-8


def test_a_spoiled_layer_is_the_worst(exact: Bundle, tiny_pair: Pair, tmp_path: Path) -> None:
    """One weight's bytes turned around in the file: neither its plan nor the checkpoint would show it."""
    spoiled = build(tiny_pair, tmp_path / "spoiled", precision="int8")
    graph = onnx.load(spoiled.file("onnx/target.onnx"), load_external_data=False).graph
    tensor = next(t for t in graph.initializer if t.name == "layers.2.self_attn.o_proj.weight.int8")
    where = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = int(where["offset"]), int(where["length"])
    data = spoiled.file("onnx") / where["location"]
    content = bytearray(data.read_bytes())
    content[offset : offset + length] = content[offset : offset + length][::-1]
    data.write_bytes(content)
    worst, *others = worst_layers(
        layer_errors(exact.file("onnx"), spoiled.file("onnx"), tiny.VOCAB, tiny.BLOCK)["target"]
    )
    assert worst[0] == "target.layers.2.self_attn.o_proj"
    assert worst[1] > 0.99
    assert not others
    assert diverge(exact, spoiled, TEXTS).kl > 10 * LARGEST


LARGEST = 1e-3  # of the tiny pair in int8, with room; the spoiled one must be far beyond


def test_the_sound_bundle_stays_below_what_the_spoiled_one_is_held_against(exact: Bundle, int8: Bundle) -> None:
    assert 0 < diverge(exact, int8, TEXTS).kl < LARGEST


def report_with(kl: float, top1: float) -> PrecisionReport:
    layers = [LayerError(f"target.{n}", 1, False, 0.0, 0.1, damage) for n, damage in enumerate((1, 5, 0, 3, 1))]
    return PrecisionReport(Divergence(9, kl, 0, 0, top1, 1, 1), {}, {"target": layers, "drafter": []})


@pytest.mark.parametrize(
    ("kl", "top1", "passed"),
    [
        (0.02, 0.95, True),
        (0.0201, 1.0, False),
        (0.0, 0.9499, False),
        (float("nan"), 1, False),
        (0, float("nan"), False),
    ],
)
def test_the_limits(kl: float, top1: float, passed: bool) -> None:
    report = report_with(kl, top1)
    assert report.passed is passed
    assert report.keep_fp32 == ([] if passed else [("target.1", 0.5), ("target.3", 0.3)])


def verify(capsys: pytest.CaptureFixture[str], bundle: Bundle, *options: str) -> Any:
    return run(capsys, "verify", bundle.path, "--precision-report", "--threads=1", "--max-new-tokens=8", *options)


def test_the_command_needs_no_more_than_the_bundle(int8: Bundle, tiny_pair: Pair, capsys, monkeypatch) -> None:
    folders = []
    monkeypatch.setattr(
        reports, "layer_errors", lambda exact, *rest: folders.append(exact) or layer_errors(exact, *rest)
    )
    before = sorted(int8.path.rglob("*"))
    done = verify(capsys, int8, "--json")
    assert done.code == (0 if done.json["passed"] else 1)
    assert done.json.keys() == {
        "reference",
        "passed",
        "limits",
        "divergence",
        "accepted_length",
        "layers",
        "keep_fp32",
    }
    assert done.json["reference"] == {"target": str(tiny_pair[0]), "drafter": str(tiny_pair[1])}
    assert done.json["divergence"].keys() == set(Divergence._fields)
    assert done.json["accepted_length"].keys() == {"fp32", "int8_target_fp32_drafter", "int8"}
    assert all(1 <= value <= tiny.BLOCK + 1 for value in done.json["accepted_length"].values())
    assert done.json["layers"]["target"][0].keys() == set(LayerError._fields)
    assert len(done.json["layers"]["drafter"]) == 12
    assert sorted(int8.path.rglob("*")) == before
    assert len(folders) == 1
    assert not folders[0].exists(), "the float32 pair is left behind"


def test_the_command_names_layers_when_a_limit_is_missed(int8: Bundle, capsys, monkeypatch) -> None:
    monkeypatch.setattr("dspark_export.quantization.report.LARGEST_KL", 0.0)
    done = verify(capsys, int8, "--limit=1")
    assert done.code == 1
    assert "int8 does NOT hold" in done.out
    assert "--keep-fp32 target.layers." in done.out
    assert "target.layers.3.mlp.down_proj" in done.out.split("end to end")[0]


def test_checkpoints_given_by_hand_and_texts_that_do_not_fit(
    int8: Bundle, tiny_pair: Pair, tmp_path: Path, capsys
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": "x" * n}) + "\n" for n in (3, 500)))
    target, drafter = (f"--{name}={path}" for name, path in zip(("target", "drafter"), tiny_pair, strict=True))
    done = verify(capsys, int8, "--json", f"--prompts={prompts}", target, drafter)
    assert done.code in (0, 1)
    assert 96 < done.json["divergence"]["tokens"] < 2 * 96


@pytest.mark.slow
def test_the_real_pair(smollm2_bundle: Path, tmp_path: Path, capsys) -> None:
    """The checkpoints as they are built from for the other tests of the real pair."""
    manifest = open_bundle(smollm2_bundle).manifest
    root = Path(__file__).resolve().parents[2]
    target, drafter = smollm2_bundle.parent / "models" / manifest.target.name, root / "examples" / "smollm2" / "drafter"
    if not target.exists():
        pytest.skip(f"{target} is not there")
    limits = Limits(context_length=512, prefill_chunk=256, slots=1)
    output = tmp_path / "int8"
    build_bundle(BuildPlan(target, drafter, output, "onnxruntime", limits, precision="int8"), Silent())
    prompts = root / "calibration" / "prompts" / "evaluation.jsonl"
    done = run(capsys, "verify", output, "--precision-report", f"--prompts={prompts}", "--limit=16", "--json")
    assert done.code == 0, done.json
    assert done.json["divergence"]["tokens"] > 500
    accepted = done.json["accepted_length"]
    assert accepted["int8"] > 0.95 * accepted["fp32"]
    assert max(layer["output_error"] for layers in done.json["layers"].values() for layer in layers) < 0.1


def with_sources(bundle: Bundle, **sources: str | None) -> Bundle:
    """`bundle` with other recorded places; None is what an older manifest says."""
    manifest = bundle.manifest
    changed = {name: getattr(manifest, name).model_copy(update={"source": path}) for name, path in sources.items()}
    return Bundle(bundle.path, manifest.model_copy(update=changed))


def test_where_the_checkpoints_are_looked_for(int8: Bundle, tiny_pair: Pair, tmp_path: Path) -> None:
    assert find_origin(int8, None, None) == tiny_pair
    with pytest.raises(CheckpointError, match="does not say where the target is") as error:
        find_origin(with_sources(int8, target=None), None, None)
    assert "--target and --drafter" in error.value.hint
    gone = with_sources(int8, drafter=str(tmp_path / "gone"))
    with pytest.raises(CheckpointError, match=r"drafter was read from .*gone, which is not there"):
        find_origin(gone, None, None)
    assert find_origin(gone, *tiny_pair) == tiny_pair
    other = tiny.write_drafter(tmp_path / "other", seed=7)
    with pytest.raises(CheckpointError, match="other: not the checkpoint that this bundle was built from"):
        find_origin(int8, tiny_pair[0], other)
    moved = with_sources(int8, target=str(tiny.write_target(tmp_path / "changed", seed=7)))
    with pytest.raises(CheckpointError, match="changed: not the checkpoint"):
        find_origin(moved, None, None)


def test_an_old_manifest_is_read(int8: Bundle) -> None:
    data = int8.manifest.model_dump()
    del data["target"]["source"], data["drafter"]["source"]
    assert Manifest.model_validate(data).target.source is None
