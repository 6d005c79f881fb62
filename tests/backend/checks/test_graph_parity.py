"""Exported graphs against the torch modules of the same weights: ragged rows, steps, rollback."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from dspark_engines.bundle import Limits
from dspark_export.bundling import Silent
from dspark_export.bundling.export import export_graphs
from dspark_export.bundling.plan import BuildPlan, Pair, open_pair
from dspark_export.checkpoints import DrafterSpec, RopeSpec, TargetSpec
from dspark_export.checkpoints.expected import drafter_tensors, target_tensors
from dspark_export.checks import compare
from dspark_export.graphs import build_drafter_graph, build_target_graph, save_graph
from dspark_export.graphs.rope import inverse_frequencies, rope_tables
from dspark_export.reference_graph import ReferenceGraph
from tests.support import tiny

torch = pytest.importorskip("torch")
from dspark_export import parity  # noqa: E402

LIMITS, CAPACITY = Limits(context_length=64, prefill_chunk=16, slots=1), 64 + tiny.BLOCK
ROPES = {
    "default": RopeSpec(1e4),
    "linear": RopeSpec(1e4, "linear", 4.0),
    "llama3": RopeSpec(500.0, "llama3", 8.0, 1.0, 4.0, 32),  # a few channels in each of its three ranges
}
# Rounds of (new tokens, of which taken back) a row: a prompt, blocks, single tokens; used up to 44 a row.
ONE_ROW = [[(17, 0)], [(6, 5)], [(1, 0)], [(6, 2)], [(6, 0)]]
THREE_ROWS = [[(1, 0), (9, 0), (30, 0)], [(6, 5), (1, 0), (6, 0)], [(2, 1), (6, 6), (1, 0)], [(6, 0), (6, 3), (5, 4)]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield


class Exported(NamedTuple):
    pair: Pair
    folder: Path

    def graph(self, name: str, rows: int) -> ReferenceGraph:
        return ReferenceGraph(self.folder / f"{name}.onnx", rows, CAPACITY)

    def target(self) -> Any:
        return parity.TargetModule(self.pair.target.spec, self.pair.target.weights)

    def drafter(self) -> Any:
        weights, tied = self.pair.target.weights, self.pair.target.spec.tied_embeddings
        tables = [
            weights[name] for name in ("embed_tokens.weight", "embed_tokens.weight" if tied else "lm_head.weight")
        ]
        return parity.DrafterModule(self.pair.drafter.spec, self.pair.drafter.weights, *tables)


def export(root: Path, target: TargetSpec, drafter: DrafterSpec, own: Sequence[str] = ()) -> Exported:
    """Write tiny checkpoints, read them back, export, check; `own` tables lie in the drafter's checkpoint too."""
    paths = tiny.write_target(root / "target", target), tiny.write_drafter(root / "drafter", drafter)
    extra = tiny.random_tensors(dict.fromkeys(own, (tiny.VOCAB, tiny.HIDDEN)), seed=7)
    weights = paths[1] / "model.safetensors"
    save_file(load_file(weights) | extra, weights)
    plan = BuildPlan(*paths, root / "bundle", None, LIMITS)
    exported = Exported(open_pair(plan), root / "onnx")
    export_graphs(exported.pair, exported.folder, plan, Silent())
    for name in ("target", "drafter"):
        onnx.checker.check_model(exported.folder / f"{name}.onnx", full_check=True)
    return exported


def assert_all(comparisons: Sequence[Any]) -> None:
    assert comparisons
    assert all(c.passed for c in comparisons), [c for c in comparisons if not c.passed]


def rounds_of(plan: Sequence[Sequence[tuple[int, int]]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(row_lengths, used) of every round."""
    used = np.zeros(len(plan[0]), np.int64)
    for rows in plan:
        new, back = np.array(rows).T
        yield new, used
        used = used + new - back


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_target(architecture: str, tied: bool, rope: str, tmp_path: Path) -> None:
    drafter = dataclasses.replace(tiny.drafter_spec(), target_layer_ids=(-1, 0, 2))
    exported = export(tmp_path, tiny.target_spec(architecture, tied=tied, rope=ROPES[rope]), drafter)
    for plan in (ONE_ROW, THREE_ROWS):
        assert_all(list(target_steps(exported, plan)))


MIXED = (  # windows past which the rounds below go; two ropes, two head widths, two groupings
    {"window": 6, "softcap": 2.0},
    {"rope": ROPES["linear"], "head_dim": 32},
    {"window": 9, "num_heads": 2, "num_kv_heads": 1, "qk_norm": True},
    {"scale": 0.5, "intermediate_size": 32},
)


def mixed_target() -> TargetSpec:
    """A target whose layers all differ."""
    spec = tiny.target_spec()
    layers = (
        dataclasses.replace(layer, **changes)  # type: ignore[arg-type]  # a table of several fields
        for layer, changes in zip(spec.shape.layers, MIXED, strict=True)
    )
    return dataclasses.replace(spec, shape=dataclasses.replace(spec.shape, layers=tuple(layers)))


def test_a_target_whose_layers_differ(tmp_path: Path) -> None:
    spec, drafter = mixed_target(), dataclasses.replace(tiny.drafter_spec(), target_layer_ids=(-1, 0, 2))
    tensors = tiny.random_tensors(target_tensors(spec))
    weights = tiny.weights_of(tensors)
    graph = build_target_graph(spec, weights, drafter.target_layer_ids, CAPACITY)
    save_graph(graph, tmp_path / "target.onnx")
    onnx.checker.check_model(tmp_path / "target.onnx", full_check=True)
    pair: Any = SimpleNamespace(target=SimpleNamespace(spec=spec, weights=weights))
    for plan in (ONE_ROW, THREE_ROWS):
        assert_all(list(target_steps(Exported(pair, tmp_path), plan)))


def target_steps(exported: Exported, plan: Any) -> Iterator[Any]:
    module, graph, random = exported.target(), exported.graph("target", len(plan[0])), np.random.default_rng(0)
    texts: list[list[int]] = [[] for _ in plan[0]]
    for number, (lengths, used) in enumerate(rounds_of(plan)):
        new = [random.integers(0, tiny.VOCAB, n) for n in lengths]
        texts = [text[:start] + ids.tolist() for text, start, ids in zip(texts, used, new, strict=True)]
        count = int(lengths.sum())
        wanted = np.arange(count) if number % 2 else random.permutation(count)[: max(count // 2, 1)]
        feeds = {"token_ids": np.concatenate(new), "row_lengths": lengths, "used": used, "logit_rows": wanted}
        result = graph.step(**feeds)
        outputs = [module(torch.tensor([text])) for text in texts]
        logits = np.concatenate([out[0][0, -n:] for out, n in zip(outputs, lengths, strict=True)])
        taps = [module.features(states, (-1, 0, 2))[0] for _, states in outputs]
        features = np.concatenate([tap[-n:] for tap, n in zip(taps, lengths, strict=True)])
        yield compare("target.logits", result["logits"], logits[wanted])
        yield compare("target.features", result["features"], features)


DRAFTERS = {
    "none": tiny.drafter_spec("none"),
    "none-silent": tiny.drafter_spec("none", confidence=False),
    "vanilla": tiny.drafter_spec("vanilla"),
    "vanilla-plain": tiny.drafter_spec("vanilla", with_markov=False),
    "vanilla-block1": dataclasses.replace(tiny.drafter_spec("vanilla"), block_size=1),
    "gated": tiny.drafter_spec("gated"),
    "gated-silent": tiny.drafter_spec("gated", confidence=False),
    "rnn": tiny.drafter_spec("rnn"),
    "rnn-block2": dataclasses.replace(tiny.drafter_spec("rnn", with_markov=False), block_size=2),
    "vanilla-given": dataclasses.replace(tiny.drafter_spec("vanilla"), anchor="given"),
    "vanilla-given-block2": dataclasses.replace(tiny.drafter_spec("vanilla"), anchor="given", block_size=2),
    "gated-given": dataclasses.replace(tiny.drafter_spec("gated", with_markov=False), anchor="given"),
    "none-given": dataclasses.replace(tiny.drafter_spec("none", confidence=False), anchor="given"),
    "sliding": tiny.with_windows(tiny.drafter_spec("gated"), 6, 0),
    "sliding-not-causal": tiny.with_windows(tiny.drafter_spec("none"), 3, 3, mask="full"),
    "sliding-given": dataclasses.replace(tiny.with_windows(tiny.drafter_spec("vanilla"), 0, 4), anchor="given"),
    "rnn-tap0": dataclasses.replace(tiny.drafter_spec("rnn"), target_layer_ids=(-1, 1)),
}
OWN = ("embed_tokens.weight", "lm_head.weight")
CASES = [(name, number % 3 > 0, ()) for number, name in enumerate(DRAFTERS)]
CASES += [("vanilla", True, ()), ("gated", True, OWN), ("rnn", False, OWN[:1]), ("none", True, OWN[1:])]


@pytest.mark.parametrize(
    ("kind", "tied", "own"), CASES, ids=lambda v: str(v) if not isinstance(v, tuple) else f"own{len(v)}"
)
def test_drafter(kind: str, tied: bool, own: tuple[str, ...], tmp_path: Path) -> None:
    """The block's positions follow the context's last; a head that the file has not is the target's, tied or not."""
    exported = export(tmp_path, tiny.target_spec(tied=tied), DRAFTERS[kind], own)
    spec = exported.pair.drafter.spec
    assert (spec.own_embedding, spec.own_head) == (OWN[0] in own, OWN[1] in own)
    for plan in (ONE_ROW, THREE_ROWS):
        assert_all(list(drafter_steps(exported, plan)))


def test_a_drafter_of_causal_blocks(tmp_path: Path) -> None:
    """No layout that is written says so: its weights were never on the disk."""
    spec = tiny.with_windows(tiny.drafter_spec(), 0, 5, mask="causal")
    weights = tiny.weights_of(
        tiny.random_tensors(drafter_tensors(spec) | dict.fromkeys(OWN, (tiny.VOCAB, tiny.HIDDEN)))
    )
    save_graph(build_drafter_graph(spec, weights, {}, CAPACITY), tmp_path / "drafter.onnx")
    onnx.checker.check_model(tmp_path / "drafter.onnx", full_check=True)
    target = SimpleNamespace(spec=tiny.target_spec(), weights=dict.fromkeys(OWN, np.empty(0)))
    pair: Any = SimpleNamespace(drafter=SimpleNamespace(spec=spec, weights=weights), target=target)
    for plan in (ONE_ROW, THREE_ROWS):
        assert_all(list(drafter_steps(Exported(pair, tmp_path), plan)))


def drafter_steps(exported: Exported, plan: Any) -> Iterator[Any]:
    spec, rows, random = exported.pair.drafter.spec, len(plan[0]), np.random.default_rng(0)
    module, graph = exported.drafter(), exported.graph("drafter", rows)
    seen = [np.empty((0, spec.feature_size), np.float32)] * rows
    for number, (lengths, used) in enumerate(rounds_of(plan)):
        new = [3 * random.standard_normal((n, spec.feature_size), np.float32) for n in lengths]
        seen = [np.concatenate([before[:start], now]) for before, start, now in zip(seen, used, new, strict=True)]
        anchors = random.integers(0, tiny.VOCAB, rows)
        temperature = np.roll(np.array([0.0, 0.7, 1.5], np.float32), number)[:rows]
        uniforms = random.random((rows, spec.draft_length), np.float32)
        feeds = {"feature_lengths": lengths, "used": used, "anchor_ids": anchors, "temperature": temperature}
        result = graph.step(features=np.concatenate(new), uniforms=uniforms, **feeds)
        for row in range(rows):
            base, hidden = module(torch.from_numpy(seen[row]), int(anchors[row]))
            choice = float(temperature[row]), torch.from_numpy(uniforms[row])
            ids, *others = parity.draft_sampled(module, base, hidden, int(anchors[row]), *choice)
            assert result["draft_ids"][row].tolist() == ids.tolist()
            for name, other in zip(("confidence_logits", "draft_logits"), others, strict=True):
                yield compare(f"drafter.{name}", result[name][row], other.numpy())


@pytest.mark.parametrize("rope", ROPES)
def test_rope_is_that_of_transformers(rope: str) -> None:
    pytest.importorskip("transformers")
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    keys = tiny.decoder_config(tiny.shape(1, qk_norm=False, rope=ROPES[rope]))["rope_parameters"]
    theirs = LlamaRotaryEmbedding(LlamaConfig(hidden_size=64, num_attention_heads=4, head_dim=16, rope_parameters=keys))
    ours = inverse_frequencies(ROPES[rope], 16)
    assert theirs.attention_scaling == 1.0
    np.testing.assert_allclose(ours, theirs.inv_freq.double().numpy(), rtol=1e-6)
    angles = np.arange(5000)[:, None] * ours
    cos, sin = rope_tables(ROPES[rope], 16, 5000)
    assert cos.shape == sin.shape == (5000, 8)
    assert cos.dtype == sin.dtype == np.float32
    np.testing.assert_allclose(cos, np.cos(angles), atol=1e-7)  # angles in float64: exact at long positions too
    np.testing.assert_allclose(sin, np.sin(angles), atol=1e-7)
