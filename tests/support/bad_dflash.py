"""z-lab's DFlash drafters, tiny, and those that must be refused, each with what the error's line says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support import tiny
from tests.support.command_line import Case, Place

SPEC = replace(tiny.drafter_spec("none", confidence=False), anchor="given")
HEADS = ("markov_rank", "markov_head_type", "enable_confidence_head", "confidence_head_with_markov")


def write_dflash(folder: Path, **nested: Any) -> Path:
    """The tiny drafter as z-lab saves it, with more keys in `dflash_config`."""
    tiny.write_drafter(folder, replace(SPEC, anchor="predicts"))
    path = folder / "config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key not in HEADS}
    inner = {key: config.pop(key) for key in ("mask_token_id", "target_layer_ids")} | nested
    config |= {"architectures": ["DFlashDraftModel"], "dflash_config": inner}
    path.write_text(json.dumps(config | {"sliding_window": None, "use_sliding_window": False}))
    return folder


def dflash(fragment: str, change: Callable[[Path], Any] | None = None, **nested: Any) -> Case:
    """One with these keys in `dflash_config`, after `change`."""

    def prepare(place: Place) -> list[str]:
        folder = write_dflash(place.root / "drafter", **nested)
        if change is not None:
            change(folder)
        return place.build(drafter=folder)

    return Case(prepare, fragment)


def keys(fragment: str, **changes: Any) -> Case:
    """One with other values in config.json."""
    return dflash(fragment, lambda folder: tiny.edit_config(folder, **changes))


DFLASH = {
    "dflash: sliding": dflash("dflash_config.use_swa: Input should be False", use_swa=True),
    "dflash: causal": dflash("dflash_config.causal: Input should be False", causal=True),
    "dflash: sinks": dflash("dflash_config.attention_sink_bias: Input should be", attention_sink_bias=True),
    "dflash: a key that nobody knows": dflash("unknown key 'dflash_config.emb_dim'", emb_dim=256),
    "dflash: a DSpark drafter by the wrong name": keys("has DSpark's keys (markov_rank, enable_conf", markov_rank=0),
    "dflash: two block sizes": dflash("block_size is both 5 and 8", block_size=8),
    "dflash: no block size": keys("missing key 'block_size'", block_size=None),
    "dflash: a block of one": keys("a block of 1 whose anchor predicts nothing drafts nothing", block_size=1),
    "dflash: layers that slide": keys(
        "layer_types.0: Input should be 'full_attention'", layer_types=["sliding_attention"] * 2
    ),
    "dflash: the last layer tapped": dflash("target_layer_ids taps 3, which is not below", target_layer_ids=[1, 3]),
    "dflash: taps that fall": dflash("target_layer_ids must be a strictly rising list", target_layer_ids=[2, 0]),
    "dflash: no taps": dflash("dflash_config.target_layer_ids: List should have at least 1", target_layer_ids=[]),
    "dflash: a mask outside": dflash("mask_token_id 128 lies outside the vocabulary of 128", mask_token_id=128),
    "dflash: a mask of its own": dflash(
        "its mask token has an embedding of its own (mask_embedding.pt)",
        lambda folder: (folder / "mask_embedding.pt").write_bytes(b""),
    ),
    "dflash: another target's": keys("num_target_layers 5, the target has 4", num_target_layers=5),
    "dflash: Domino": dflash(
        "architectures is ['DominoDraftModel'], not a drafter that this version reads",
        lambda folder: tiny.edit_config(folder, architectures=["DominoDraftModel"]),
        projector_type="domino",
    ),
}
