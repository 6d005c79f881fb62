"""Drafters that the speculators library saved: what is read, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DrafterCheckpoint, DrafterSpec, open_drafter
from dspark_export.checkpoints.dialects.speculators import SpeculatorsDialect
from dspark_export.checkpoints.expected import drafter_tensors
from dspark_export.checkpoints.reduction import CUT
from dspark_export.checkpoints.spec import AnchorMode, BlockMask
from tests.support import tiny

KEPT = tuple(range(0, tiny.VOCAB, 2))


def written(folder: Path, spec: DrafterSpec) -> Path:
    folder.mkdir()
    tensors = tiny.random_tensors(drafter_tensors(spec) | {"lm_head.weight": (spec.draft_vocab_size, tiny.HIDDEN)})
    checkpoint = DrafterCheckpoint(path=folder, spec=spec, weights=tiny.weights_of(tensors), files=[])
    SpeculatorsDialect().write(checkpoint, folder)
    return folder


def change(folder: Path, **tensors: np.ndarray | None) -> None:
    path = folder / "model.safetensors"
    changed = load_file(path) | tensors
    save_file({name: array for name, array in changed.items() if array is not None}, path)


ANCHORS = [(kind, "predicts") for kind in ("none", "vanilla", "gated", "rnn")]
ANCHORS += [(kind, "given") for kind in ("none", "vanilla", "gated")]


@pytest.mark.parametrize(("kind", "anchor"), ANCHORS)
@pytest.mark.parametrize("kept", [(), KEPT], ids=["whole", "reduced"])
def test_what_is_written_is_read_back(tmp_path: Path, kind: str, kept: tuple[int, ...], anchor: AnchorMode) -> None:
    """Their ids of layers count one more; W1 has a row for each target token, W2 and head for each that is drafted."""
    spec = replace(tiny.drafter_spec(kind), draft_vocabulary=kept, own_head=True, anchor=anchor)
    drafter = open_drafter(written(tmp_path / "drafter", spec), tiny.target_spec())
    assert drafter.spec == spec
    assert drafter.weights.shapes["lm_head.weight"] == (len(kept) or tiny.VOCAB, tiny.HIDDEN)
    config = json.loads((tmp_path / "drafter" / "config.json").read_text())
    assert config["aux_hidden_state_layer_ids"] == [tap + 1 for tap in tiny.TAPS]


def test_the_library_s_defaults_stand_for_what_is_left_out(tmp_path: Path) -> None:
    spec = replace(tiny.drafter_spec(), own_head=True)
    folder = written(tmp_path / "drafter", spec)
    tiny.edit_config(
        folder, markov_head_type=None, enable_confidence_head=None, confidence_head_with_markov=None, architectures=None
    )
    assert open_drafter(folder, tiny.target_spec()).spec == spec


DFLASH = tiny.drafter_spec("none", confidence=False)


@pytest.mark.parametrize(("anchor", "said"), [("given", "dflash"), ("predicts", "dspark")])
def test_a_backbone_alone(tmp_path: Path, anchor: AnchorMode, said: str) -> None:
    """The library's dflash; with an anchor that predicts it is written as dspark of rank 0, which is the same."""
    spec = replace(DFLASH, own_head=True, draft_vocabulary=KEPT, anchor=anchor)
    folder = written(tmp_path / "drafter", spec)
    config = json.loads((folder / "config.json").read_text())
    assert (config["speculators_model_type"], "markov_rank" in config) == (said, said == "dspark")
    assert open_drafter(folder, tiny.target_spec()).spec == spec


@pytest.mark.parametrize(
    ("flag", "tokens", "anchor"),
    [(True, 5, "predicts"), (None, 5, "predicts"), (False, 4, "given"), (None, 4, "given")],
)
def test_dflash_says_which_anchor_it_has(tmp_path: Path, flag: bool | None, tokens: int, anchor: str) -> None:
    folder = written(tmp_path / "drafter", replace(DFLASH, own_head=True, anchor="given"))
    methods = {"proposal_methods": [{"speculative_tokens": tokens}]}
    tiny.edit_config(folder, sample_from_anchor=flag, speculators_config=methods)
    spec = open_drafter(folder, tiny.target_spec()).spec
    assert (spec.anchor, spec.markov.rank, spec.confidence.enabled) == (anchor, 0, False)


@pytest.mark.parametrize(
    ("flag", "tokens", "anchor"),
    [
        (True, 5, "predicts"),
        (None, 5, "predicts"),
        (True, None, "predicts"),
        (True, 3, "predicts"),
        (False, 4, "given"),
        (None, 4, "given"),
        (False, None, "given"),
        (False, 3, "given"),
    ],
)
def test_the_anchor_rule(tmp_path: Path, flag: bool | None, tokens: int | None, anchor: str) -> None:
    """A key that is absent means nothing by itself, as programs differ on it: the number of tokens proposed decides."""
    folder = written(tmp_path / "drafter", replace(tiny.drafter_spec(), own_head=True))
    methods = {"proposal_methods": [{"speculative_tokens": tokens}]}
    tiny.edit_config(folder, sample_from_anchor=flag, speculators_config=methods)
    assert open_drafter(folder, tiny.target_spec()).spec.anchor == anchor


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: tiny.edit_config(folder, **changes)


def layers(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        keys = json.loads((folder / "config.json").read_text())["transformer_layer_config"]
        tiny.edit_config(folder, transformer_layer_config=keys | changes)

    return edit


def proposing(tokens: int | None, flag: bool | None) -> Callable[[Path], None]:
    methods = {"proposal_methods": [{"speculative_tokens": tokens}]}
    return config(speculators_config=methods, sample_from_anchor=flag)


SLIDING = ["sliding_attention", "full_attention"]
WINDOWS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, int], str]] = {
    "by types": ({"layer_types": SLIDING, "sliding_window": 4, "use_sliding_window": True}, {}, (4, 0), "causal_if_sl"),
    "not causal": (
        {"layer_types": SLIDING, "sliding_window": 4, "use_sliding_window": True},
        {"sliding_window_non_causal": True},
        (4, 0),
        "full",
    ),
    "from a layer on": (
        {"layer_types": None, "sliding_window": 4, "use_sliding_window": True, "max_window_layers": 1},
        {},
        (0, 4),
        "causal_if_sl",
    ),
    "from Qwen3's usual layer on": (
        {"layer_types": None, "sliding_window": 4, "use_sliding_window": True},
        {},
        (0, 0),
        "full",
    ),
    "off": ({"layer_types": None, "sliding_window": 4, "use_sliding_window": False}, {}, (0, 0), "full"),
    "flagged, and nothing slides": ({}, {"sliding_window_non_causal": True}, (0, 0), "full"),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_windows(tmp_path: Path, case: str) -> None:
    """Layers that slide are causal inside the block unless flagged; the flag says nothing of layers that do not."""
    inner, outer, windows, mask = WINDOWS[case]
    folder = written(tmp_path / "drafter", replace(tiny.drafter_spec(), own_head=True))
    layers(**inner)(folder)
    tiny.edit_config(folder, **outer)
    spec = open_drafter(folder, tiny.target_spec()).spec
    assert tuple(layer.window for layer in spec.shape.layers) == windows
    assert spec.block_mask.startswith(mask)


@pytest.mark.parametrize("mask", ["causal_if_sliding", "full"])
def test_windows_are_written_as_they_are_read(tmp_path: Path, mask: BlockMask) -> None:
    spec = replace(tiny.with_windows(tiny.drafter_spec(), 4, 0, mask=mask), own_head=True)
    assert open_drafter(written(tmp_path / "drafter", spec), tiny.target_spec()).spec == spec


@pytest.mark.parametrize(
    "spec", [tiny.with_windows(tiny.drafter_spec(), 4, 5), replace(tiny.drafter_spec(), block_mask="causal")]
)
def test_what_the_layout_cannot_say(tmp_path: Path, spec: DrafterSpec) -> None:
    with pytest.raises(CheckpointError, match="cannot be written in the layout of the speculators library"):
        written(tmp_path / "drafter", spec)


def d2t(ids: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: change(folder, d2t=ids - np.arange(len(ids)))


def rnn(folder: Path) -> None:
    """The drafter's Markov head gets a state."""
    shapes = drafter_tensors(replace(tiny.drafter_spec("rnn"), draft_vocabulary=KEPT))
    change(folder, **tiny.random_tensors({name: shape for name, shape in shapes.items() if "joint" in name}))
    tiny.edit_config(folder, markov_head_type="rnn")


@pytest.mark.parametrize("kind", ["vanilla", "rnn"])
def test_a_map_that_does_not_rise_is_the_same_drafter(tmp_path: Path, kind: str) -> None:
    """Here d2t holds what is added to a row's number; in GGUF it holds the ids themselves."""
    spec = replace(tiny.drafter_spec(kind), draft_vocabulary=KEPT, own_head=True)
    rising = open_drafter(written(tmp_path / "rising", spec), tiny.target_spec())
    folder = written(tmp_path / "mixed", spec)
    order = np.random.default_rng(0).permutation(len(KEPT))
    rows = {name: load_file(folder / "model.safetensors")[name][order] for name in CUT}
    change(folder, d2t=np.array(KEPT)[order] - np.arange(len(KEPT)), **rows)
    mixed = open_drafter(folder, tiny.target_spec())
    assert mixed.spec == rising.spec
    for name, array in rising.weights.items():
        np.testing.assert_array_equal(mixed.weights[name], array, err_msg=name)
        assert mixed.weights.shapes[name] == array.shape


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "another method": (config(speculators_model_type="xpress"), "speculators_model_type is 'xpress'"),
    "a later DFlash": (config(speculators_model_type="dflash2"), "speculators_model_type is 'dflash2'"),
    "no method": (config(speculators_model_type=["dspark"]), "speculators_model_type is ['dspark'], not a drafter"),
    "heads that dflash has not": (
        config(speculators_model_type="dflash"),
        "unknown tensor 'confidence_head.proj.bias'",
    ),
    "anchors contradict": (proposing(4, True), "which contradicts blocks of 5 that propose 4 tokens"),
    "anchors contradict the other way": (proposing(5, False), "sample_from_anchor is false, which contradicts"),
    "no word of anchors": (proposing(None, None), "says neither sample_from_anchor nor how many tokens"),
    "nothing drafted": (config(block_size=1, sample_from_anchor=False, speculators_config=None), "drafts nothing"),
    "a state behind a given anchor": (
        lambda folder: (rnn(folder), proposing(4, False)(folder)),
        "a Markov head of kind rnn behind an anchor that predicts nothing",
    ),
    "a window of no width": (layers(layer_types=SLIDING), "layer_types says that layers slide, and there is no slid"),
    "a window that is off": (layers(layer_types=SLIDING, sliding_window=4), "and there is no sliding_window"),
    "too few layer types": (layers(layer_types=["full_attention"]), "layer_types names 1 layers, num_hidden_layers"),
    "chunked layers": (
        layers(layer_types=["chunked_attention"] * 2),
        "layer_types.0: Input should be 'full_attention'",
    ),
    "streams": (layers(hc_mult=4), "hc_mult"),
    "last layer tapped": (config(aux_hidden_state_layer_ids=[1, 4]), "taps 4, which is not below the target's last"),
    "taps unsorted": (config(aux_hidden_state_layer_ids=[3, 1]), "must be a strictly rising list of layers"),
    "mask outside": (config(mask_token_id=128), "mask_token_id 128 lies outside the vocabulary of 128"),
    "more than all": (config(draft_vocab_size=129), "draft_vocab_size 129 is more than the vocabulary of 128"),
    "no map": (lambda folder: change(folder, d2t=None), "draft_vocab_size is 64, but no tensor d2t"),
    "a map out of range": (d2t(np.array([*KEPT[:-1], 128])), "d2t does not give 64 different ids below 128"),
    "a map with one twice": (d2t(np.array([KEPT[1], *KEPT[1:]])), "d2t does not give 64 different ids below 128"),
    "a map of others": (d2t(np.array(KEPT) + 1), "d2t and t2d name different tokens"),
    "a map of another size": (d2t(np.array(KEPT[1:])), "d2t does not give 64 different ids"),
    "head of another size": (
        lambda folder: change(folder, **{"lm_head.weight": np.ones((128, 48), np.float32)}),
        "lm_head.weight has shape [128, 48], the config asks for [64, 48]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_a_line(tmp_path: Path, case: str) -> None:
    spec = replace(tiny.drafter_spec(), draft_vocabulary=KEPT, own_head=True)
    folder = written(tmp_path / "drafter", spec)
    spoil, message = REFUSED[case]
    spoil(folder)
    with pytest.raises(CheckpointError) as caught:
        open_drafter(folder, tiny.target_spec())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
