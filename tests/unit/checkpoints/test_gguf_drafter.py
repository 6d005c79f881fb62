"""Drafters in GGUF: what llama.cpp's converter may leave out, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DrafterCheckpoint, open_drafter, open_target
from dspark_export.checkpoints.dialects import gguf_drafter_file
from dspark_export.checkpoints.dialects.gguf_drafter import MASK
from dspark_export.checkpoints.expected import drafter_tensors
from dspark_export.checkpoints.reduction import CUT
from tests.support import tiny
from tests.support.tiny_gguf import write_gguf_target

HALF = list(range(0, tiny.VOCAB, 2))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf_target(tmp_path_factory.mktemp("target") / "target.gguf")


def written(
    folder: Path,
    target: Path,
    patch: pytest.MonkeyPatch,
    architecture: str = "dflash",
    tensors: dict[str, Any] | None = None,
    bare: bool = False,
    **changes: Any,
) -> Path:
    """A drafter whose keys are changed (None: left out, "__" for a dot) and to which tensors are added; `bare`: it has
    no others."""
    metadata, written_tensors = gguf_drafter_file._metadata, gguf_drafter_file._tensors
    keys = {key if key == MASK else f"dflash.{key.replace('__', '.')}": value for key, value in changes.items()}
    patch.setattr(gguf_drafter_file, "ARCHITECTURE", architecture) if architecture != "dflash" else None
    patch.setattr(gguf_drafter_file, "_metadata", lambda spec: {
        key: value for key, value in (metadata(spec) | keys).items() if value is not None
    })  # fmt: skip
    patch.setattr(gguf_drafter_file, "_tensors", lambda checkpoint: [
        *(() if bare else written_tensors(checkpoint)), *(tensors or {}).items()
    ])  # fmt: skip
    spec = tiny.drafter_spec()
    weights = tiny.weights_of(tiny.random_tensors(drafter_tensors(spec)))
    checkpoint = DrafterCheckpoint(path=folder, spec=spec, weights=weights, files=[])
    return gguf_drafter_file.write_gguf_drafter(checkpoint, open_target(target), folder)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, {"anchor": "predicts", "draft_vocabulary": ()}),
        ({"sample_from_anchor": None, "has_confidence_head": None}, {"anchor": "predicts"}),
        ({"sample_from_anchor": False}, {"anchor": "given", "block_size": tiny.BLOCK}),
        ({"attention__key_length": 16, "rope__scaling__type": "none"}, {"block_size": tiny.BLOCK}),
        ({"target_layers": [0, 3]}, {"target_layer_ids": (-1, 2)}),
    ],
)
def test_what_may_be_left_out(
    changes: dict[str, Any], fields: dict[str, Any], target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An anchor that the file says nothing of predicts; target_layers count one more than we do."""
    spec = open_drafter(written(tmp_path, target, monkeypatch, **changes), open_target(target).spec).spec
    expected = {"target_layer_ids": tiny.TAPS} | fields
    assert {name: getattr(spec, name) for name in expected} == expected


LINEAR, YARN = {"type": "linear", "factor": 4.0}, {"type": "yarn", "factor": 4.0, "original_context_length": 64}
ROPES: dict[str, tuple[dict[str, Any], str, float]] = {
    "linear": (LINEAR, "linear", 4.0),
    "a factor without a type is linear": ({"factor": 4.0}, "linear", 4.0),
    "none scales nothing": (LINEAR | {"type": "none"}, "default", 1.0),
    "YaRN": (YARN, "yarn", 4.0),
}


@pytest.mark.parametrize("case", ROPES)
def test_rope_is_scaled_as_llama_cpp_scales_it(
    case: str, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in targets, whose tables are held against ggml's."""
    scaling, kind, factor = ROPES[case]
    keys = {f"rope__scaling__{key}": value for key, value in scaling.items()}
    path = written(tmp_path, target, monkeypatch, **keys)
    rope = open_drafter(path, open_target(target).spec).spec.shape.layers[0].rope
    assert (rope.kind, rope.factor) == (kind, factor)


def test_weights_are_as_they_lie_in_the_file(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms have no one added to them, and the rows of queries and keys are in no other order."""
    drafter = open_drafter(written(tmp_path, target, monkeypatch), open_target(target).spec)
    for name, array in tiny.random_tensors(drafter_tensors(tiny.drafter_spec())).items():
        np.testing.assert_array_equal(drafter.weights[name], array, err_msg=name)


def reduced(folder: Path, target: Path, patch: pytest.MonkeyPatch, order: np.ndarray) -> DrafterCheckpoint:
    """A drafter of half the vocabulary, d2t and the rows that it stands for in this order."""
    spec = replace(tiny.drafter_spec(), draft_vocabulary=tuple(HALF), own_head=True)
    shapes = drafter_tensors(spec) | {"lm_head.weight": (len(HALF), tiny.HIDDEN)}
    rows = {name: tensor[order] for name, tensor in tiny.random_tensors(shapes).items() if name in CUT}
    weights = tiny.weights_of(tiny.random_tensors(shapes) | rows)
    checkpoint = DrafterCheckpoint(path=folder, spec=spec, weights=weights, files=[])
    original = gguf_drafter_file._tensors
    patch.setattr(gguf_drafter_file, "_tensors", lambda checkpoint: [
        ("d2t", tensor[order]) if name == "d2t" else (name, tensor) for name, tensor in original(checkpoint)
    ])  # fmt: skip
    return open_drafter(
        gguf_drafter_file.write_gguf_drafter(checkpoint, open_target(target), folder), open_target(target).spec
    )


def test_a_map_that_does_not_rise_is_the_same_drafter(target: Path, tmp_path: Path) -> None:
    """d2t holds ids, as integers; in the speculators library's files it holds what is added to a row's number."""
    orders = {"rising": np.arange(len(HALF)), "mixed": np.random.default_rng(0).permutation(len(HALF))}
    drafters = {}
    for name, order in orders.items():
        (tmp_path / name).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            drafters[name] = reduced(tmp_path / name, target, patch, order)
    assert drafters["mixed"].spec == drafters["rising"].spec
    for name, array in drafters["rising"].weights.items():
        np.testing.assert_array_equal(drafters["mixed"].weights[name], array, err_msg=name)


def test_another_target_s_tokenizer_is_noticed_without_heads(target: Path, tmp_path: Path) -> None:
    """A backbone alone has no tensor as long as the vocabulary."""
    spec, other = tiny.drafter_spec("none", confidence=False), replace(tiny.target_spec(), vocab_size=tiny.VOCAB + 16)
    weights = tiny.weights_of(tiny.random_tensors(drafter_tensors(spec)))
    checkpoint = DrafterCheckpoint(path=tmp_path, spec=spec, weights=weights, files=[])
    wrong = open_target(write_gguf_target(tmp_path / "other.gguf", other))
    path = gguf_drafter_file.write_gguf_drafter(checkpoint, wrong, tmp_path)
    assert open_drafter(path, wrong.spec).spec.vocab_size == tiny.VOCAB + 16
    with pytest.raises(CheckpointError, match="drafter has vocab_size 144, the target has 128"):
        open_drafter(path, open_target(target).spec)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a fork's": ({"architecture": "dspark"}, "architecture 'dspark' is a fork's layout"),
    "Eagle3": ({"architecture": "eagle3"}, "architecture 'eagle3' is an Eagle3 drafter"),
    "a target": ({"architecture": "llama"}, "architecture 'llama' is not a drafter that this version reads"),
    "softcap": ({"final_logit_softcapping": 30.0}, "dflash.final_logit_softcapping is 30.0, which is not followed"),
    "scale": ({"logit_scale": 0.5}, "dflash.logit_scale is 0.5"),
    "DeepSeek-V4's stages": ({"hyper_connection__count": 4}, "dflash.hyper_connection.count is 4"),
    "DFlash2": ({"selector_rank": 8}, "dflash.selector_rank is 8"),
    "causal": ({"attention__causal": True}, "dflash.attention.causal is True"),
    "sliding layers": ({"attention__sliding_window_pattern": [1, 0]}, "its layers slide, which is not followed"),
    "an older fork's": ({"architecture": "dflash-draft"}, "architecture 'dflash-draft' is a fork's layout"),
    "YaRN without a factor": ({"rope__scaling__type": "yarn"}, "type is 'yarn', and there is no dflash.rope.scaling.f"),
    "linear without a factor": ({"rope__scaling__type": "linear"}, "'linear', and there is no dflash.rope.scaling.fac"),
    "heads turned in part": ({"rope__dimension_count": 8}, "dimension_count is 8, only whole heads of 16 can be rot"),
    "another target's mask": ({MASK: tiny.VOCAB}, "mask_token_id 128 lies outside the vocabulary of 128"),
    "metadata alone": ({"bare": True}, "2 layers announced, and 0 tensors in all"),
    "the last layer tapped": ({"target_layers": [1, tiny.LAYERS]}, "dflash.target_layers is [1, 4], the target has 4"),
    "taps that fall": ({"target_layers": [3, 1]}, "dflash.target_layers is [3, 1]"),
    "nothing drafted": ({"sample_from_anchor": False, "block_size": 1}, "a block of 1 whose anchor predicts nothing"),
    "gates": ({"tensors": {"blk.0.attn_gate.weight": np.ones((4, 48), np.float32)}}, "unknown tensor 'blk.0.attn_gate"),
    "sinks": ({"tensors": {"blk.0.attn_sinks.weight": np.ones(4, np.float32)}}, "unknown tensor 'blk.0.attn_sinks"),
    "d2t beyond the vocabulary": (
        {"tensors": {"d2t": np.array([*HALF[:-1], tiny.VOCAB])}}, "d2t does not give different ids below 128"
    ),
    "d2t twice": ({"tensors": {"d2t": np.array([HALF[0], *HALF[:-1]])}}, "d2t does not give different ids"),
    "d2t without lines for it": ({"tensors": {"d2t": np.array(HALF)}}, "markov_w2.weight has shape [128, 8]"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, said = REFUSED[case]
    path = written(tmp_path, target, monkeypatch, **changes)
    with pytest.raises(CheckpointError) as caught:
        open_drafter(path, open_target(target).spec)
    assert said in str(caught.value)
    assert caught.value.hint
