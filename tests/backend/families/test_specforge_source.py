"""SpecForge's own modules beside our oracle and our graph, where its source is at hand.

DSPARK_TEST_SPECFORGE names a checkout of it. What it trains is read by two dialects, DSpark as its own and DFlash as
z-lab's; layers that slide are refused.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_drafter
from tests.support import specforge_oracle as specforge
from tests.support import tiny
from tests.support.block_drafts import LIMIT, compare, our_drafts
from tests.support.specforge_oracle import CONTEXT, torch

pytestmark = [
    pytest.mark.skipif(not specforge.SOURCE, reason="DSPARK_TEST_SPECFORGE does not name a checkout of SpecForge"),
    pytest.mark.filterwarnings("ignore:.*SpecForge's files do not say:UserWarning"),
]

DSPARK, DFLASH = "DSparkDraftModel", "DFlashDraftModel"
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 16.0, "original_max_position_embeddings": 16}
HEADS = {
    "projector_type": "dspark",
    "attention_mode": "gqa",
    "markov_rank": tiny.RANK,
    "markov_head_type": "vanilla",
    "confidence_head_alpha": 1.0,
    "enable_confidence_head": True,
    "confidence_head_with_markov": True,
}
LEFT_OUT = ("attention_mode", "markov_head_type", "enable_confidence_head", "confidence_head_with_markov")
NESTED: dict[str, dict[str, Any]] = {
    "vanilla": HEADS,
    "gated": HEADS | {"markov_head_type": "gated"},
    "rnn": HEADS | {"markov_head_type": "rnn"},
    "no Markov head": HEADS | {"markov_rank": 0, "confidence_head_with_markov": False},
    "confidence of the states": HEADS | {"confidence_head_with_markov": False},
    "no confidence": HEADS | {"enable_confidence_head": False},
    "what can be left out": {key: value for key, value in HEADS.items() if key not in LEFT_OUT},
    "no heads": {"projector_type": "dspark"},
    "dflash": {},
    "dflash, its projector named": {"projector_type": "dflash"},
}
"""`dflash_config`, beside taps and mask."""
OUTER: dict[str, tuple[str, dict[str, Any]]] = {
    "yarn": ("vanilla", {"rope_parameters": YARN}),
    "a key for each query": ("vanilla", {"num_key_value_heads": 4}),
    "dflash, yarn": ("dflash", {"rope_parameters": YARN}),
    "dflash, bfloat16": ("dflash", {"dtype": "bfloat16"}),
}
"""The keys around it."""
RECIPES = [
    path.stem for kind in ("dspark", "dflash") for path in Path(specforge.SOURCE, "configs").glob(f"*-{kind}.json")
]


@pytest.fixture(autouse=True)
def their_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [specforge.SOURCE, *sys.path])


def config(case: str) -> dict[str, Any]:
    """A tiny one."""
    name, outer = OUTER.get(case, (case, {}))
    nested = specforge.NESTED | NESTED[name]
    if outer.get("num_key_value_heads") == 4:
        nested |= {"attention_mode": "mha"}
    kind = DSPARK if "markov_rank" in nested or nested.get("projector_type") == "dspark" else DFLASH
    return specforge.SMALL | {"architectures": [kind], "dflash_config": nested} | outer


def check(case: str, keys: dict[str, Any], folder: Path) -> None:
    """Their drafts are ours, of what they saved."""
    model = specforge.their_model(keys)
    drafter = open_drafter(specforge.saved(model, folder), tiny.target_spec())
    taps = np.random.default_rng(2).standard_normal((CONTEXT, drafter.spec.feature_size), np.float32)
    ours = our_drafts(drafter, taps, specforge.ANCHOR, folder, specforge.tables())
    compare(case, ours, specforge.their_draft(model, taps))


@pytest.mark.parametrize("case", [*NESTED, *OUTER])
def test_drafts_are_specforge_s(case: str, tmp_path: Path) -> None:
    check(case, config(case), tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_read(name: str, tmp_path: Path) -> None:
    keys = specforge.their_recipe(name)
    if "sliding_attention" not in keys["layer_types"]:
        return check(name, keys, tmp_path)
    with pytest.raises(CheckpointError, match="sliding"):
        check(name, keys, tmp_path)


def for_sglang(folder: Path) -> None:
    """What their script makes of a directory for SGLang."""
    script = runpy.run_path(str(Path(specforge.SOURCE) / "scripts" / "gates" / "normalize_dflash_export.py"))
    script["normalize_export"](str(folder / "config.json"), tiny.BLOCK)


def early(folder: Path) -> None:
    """As early files are: their module takes these names still."""
    arrays = load_file(folder / "model.safetensors")
    arrays = {("logit_head." if "_head." in name else "") + name: x for name, x in arrays.items()}
    specforge.their_model(config("gated")).load_state_dict({key: torch.from_numpy(x) for key, x in arrays.items()})
    save_file(arrays, folder / "model.safetensors")
    tiny.edit_config(folder, architectures=[DFLASH])


@pytest.mark.parametrize("change", [for_sglang, early])
def test_other_forms_of_a_directory_are_the_same_drafter(change: Callable[[Path], None], tmp_path: Path) -> None:
    model = specforge.their_model(config("gated"))
    plain = open_drafter(specforge.saved(model, tmp_path / "plain"), tiny.target_spec())
    change(specforge.saved(model, tmp_path / "changed"))
    drafter = open_drafter(tmp_path / "changed", tiny.target_spec())
    assert drafter.spec == plain.spec
    assert {name: x.tolist() for name, x in drafter.weights.items()} == {
        name: x.tolist() for name, x in plain.weights.items()
    }


@pytest.mark.parametrize("case", ["rnn", "dflash"])
def test_blocks_are_what_its_trainer_makes_of_them(case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A block's states, and the token that each position learns: with DSpark the anchor's learns the first, with DFlash
    none. That `spec_generate` leaves out DSpark's first position, as it does DFlash's, is not what was trained."""
    model = specforge.their_model(config(case))
    drafter = open_drafter(specforge.saved(model, tmp_path), tiny.target_spec())
    taps = np.random.default_rng(3).standard_normal((40, drafter.spec.feature_size), np.float32)
    ids, anchors, length = np.arange(50, 90), (4, CONTEXT), drafter.spec.draft_length
    blocks = specforge.trained(model, taps, ids, anchors, monkeypatch)
    for at, (hidden, labels, weights) in zip(anchors, blocks, strict=True):
        first = tiny.BLOCK - length
        assert (weights > 0).tolist() == [j >= first for j in range(tiny.BLOCK)]
        assert labels[first:].tolist() == ids[at + 1 : at + 1 + length].tolist()
        ours = our_drafts(drafter, taps[:at], int(ids[at]), tmp_path, specforge.tables())["torch"]
        np.testing.assert_allclose(ours["hidden"], hidden[first:], rtol=0, atol=LIMIT)
