"""What each layer loses to int8: a spoiled layer is the worst, one that is kept loses nothing."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from dspark_engines import Bundle
from dspark_export.checks.precision.layer_errors import LayerError, layer_errors
from dspark_export.checks.precision.report import worst_layers
from tests.support import tiny
from tests.support.precision import TEXTS, Pair, build, diverge

LARGEST = 1e-3  # of the tiny pair in int8, with room; the spoiled one must be far beyond


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
    for limit in ("LARGEST_ERROR", "LARGEST_DRAFTER_ERROR"):
        monkeypatch.setattr(f"dspark_export.quantization.planning.{limit}", 0.0)
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


def test_the_sound_bundle_stays_below_what_the_spoiled_one_is_held_against(exact: Bundle, int8: Bundle) -> None:
    assert 0 < diverge(exact, int8, TEXTS).kl < LARGEST
