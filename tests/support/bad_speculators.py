"""Drafters of the speculators library that must be refused, each with what the error's line says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dspark_export.checkpoints.expected import drafter_tensors
from tests.support import tiny
from tests.support.command_line import Case, Place, edit_json, edit_tensors

SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "use_sliding_window": True}
GIVEN = replace(tiny.drafter_spec(), anchor="given")
PROPOSING = {tokens: {"proposal_methods": [{"speculative_tokens": tokens}]} for tokens in (4, 5)}


def speculators(fragment: str, change: Callable[[Path], Any] | None = None, **keys: Any) -> Case:
    """A drafter of blocks of 5 whose anchor predicts nothing, after `change` and with other config values."""

    def prepare(place: Place) -> list[str]:
        folder = tiny.write_drafter(place.root / "drafter", GIVEN)
        if change is not None:
            change(folder)
        tiny.edit_config(folder, **keys)
        return place.build(drafter=folder)

    return Case(prepare, fragment)


def with_state(folder: Path) -> None:
    """The tensors of an rnn head."""
    shapes = drafter_tensors(tiny.drafter_spec("rnn"))
    added = tiny.random_tensors({name: shape for name, shape in shapes.items() if "joint_proj" in name})
    edit_tensors(folder, lambda tensors: tensors.update(added))


def layers(fragment: str, **keys: Any) -> Case:
    """The same with other values in `transformer_layer_config`."""
    path = "transformer_layer_config"
    return speculators(fragment, lambda folder: edit_json(folder / "config.json", lambda c: c[path].update(keys)))


def mapped(fragment: str, *ids: int) -> Case:
    """A drafter of so many tokens, which d2t says are these."""

    def prepare(place: Place) -> list[str]:
        spec = replace(GIVEN, draft_vocabulary=tuple(range(len(ids))))
        folder = tiny.write_drafter(place.root / "drafter", spec)
        offsets = np.array(ids) - np.arange(len(ids))
        edit_tensors(folder, lambda tensors: tensors.update(d2t=offsets))
        return place.build(drafter=folder)

    return Case(prepare, fragment)


def verified(fragment: str, **verifier: Any) -> Case:
    """One that records this target."""
    return speculators(fragment, lambda folder: edit_json(
        folder / "config.json", lambda config: config["speculators_config"].update(verifier=verifier)
    ))  # fmt: skip


SPECULATORS = {
    "speculators: a target of another class": verified(
        "drafter: trained for Qwen/Qwen3-8B (Qwen3ForCausalLM), and this target is a LlamaForCausalLM",
        name_or_path="Qwen/Qwen3-8B",
        architectures=["Qwen3ForCausalLM"],
    ),
    "speculators: a target of a class that is not read": verified(
        "drafter: trained for MuseGlimmerForConditionalGeneration, and this target is a LlamaForCausalLM",
        architectures=["MuseGlimmerForConditionalGeneration"],
    ),
    "speculators: a target that is no name": verified(
        "speculators_config.verifier.name_or_path: Input should be a valid string", name_or_path=7
    ),
    "speculators: P-EAGLE": speculators("speculators_model_type is 'peagle'", speculators_model_type="peagle"),
    "speculators: no taps": speculators("missing key 'aux_hidden_state_layer_ids'", aux_hidden_state_layer_ids=None),
    "speculators: d2t beyond the vocabulary": mapped("d2t does not give 3 different ids below 128", 5, 6, tiny.VOCAB),
    "speculators: d2t below it": mapped("d2t does not give 3 different ids below 128", -1, 6, 7),
    "speculators: d2t gives one twice": mapped("d2t does not give 3 different ids below 128", 5, 6, 6),
    "speculators: d2t and t2d contradict": mapped("d2t and t2d name different tokens", 5, 6, 7),
    "speculators: another target's": layers("drafter has hidden_size 64, the target has 48", hidden_size=64),
    "speculators: another method": speculators("speculators_model_type is 'xpress'", speculators_model_type="xpress"),
    "speculators: a later DFlash": speculators("speculators_model_type is 'dflash2'", speculators_model_type="dflash2"),
    "speculators: heads that dflash has not": speculators(
        "drafter: unknown tensor 'confidence_head.proj.bias'", speculators_model_type="dflash"
    ),
    "speculators: anchors contradict": speculators("which contradicts blocks of 5", sample_from_anchor=True),
    "speculators: contradict the other way": speculators(
        "sample_from_anchor is false, which contradicts", speculators_config=PROPOSING[5]
    ),
    "speculators: no word of anchors": speculators(
        "says neither sample_from_anchor nor how many tokens", sample_from_anchor=None, speculators_config=None
    ),
    "speculators: nothing is drafted": speculators(
        "a block of 1 whose anchor predicts nothing drafts nothing", block_size=1, speculators_config=None
    ),
    "speculators: a state behind a given anchor": speculators(
        "a Markov head of kind rnn behind an anchor that predicts nothing", with_state, markov_head_type="rnn"
    ),
    "speculators: a window of no width": layers("layers slide, and there is no sliding_window", **SLIDING),
    "speculators: a window of nothing": layers("sliding_window: Input should be greater than 0", sliding_window=0),
    "speculators: unknown layers": layers(
        "layer_types.0: Input should be 'full_attention' or 'sliding_attention'", layer_types=["chunked_attention"] * 2
    ),
    "speculators: streams": layers("transformer_layer_config.hc_mult: Input should be None", hc_mult=4),
}
