"""SpecForge's own drafters, tiny and random, from a checkout of it that DSPARK_TEST_SPECFORGE names.

Importing this skips the tests of a module where torch or transformers are missing.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import tiny
from tests.support.block_drafts import Draft

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SOURCE = os.environ.get("DSPARK_TEST_SPECFORGE", "")
CONTEXT, CUT, ANCHOR = 23, 14, 17
"""Tokens of context, of its first part, and the id behind it."""
NESTED = {"mask_token_id": 3, "target_layer_ids": list(tiny.TAPS)}
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
SMALL = tiny.decoder_config(tiny.drafter_spec().shape) | {"num_target_layers": tiny.LAYERS, "block_size": tiny.BLOCK}


def their_module(name: str) -> Any:
    """A module of theirs; the checkout is on the path."""
    return importlib.import_module(f"specforge.{name}")


def their_recipe(name: str) -> dict[str, Any]:
    """A config that they train from, with small sizes and a few layers."""
    keys = json.loads((Path(SOURCE) / "configs" / f"{name}.json").read_text("utf-8"))
    small = {key: SMALL[key] for key in (*SIZES, "head_dim", "vocab_size", "num_target_layers", "block_size")}
    types = keys["layer_types"][: tiny.drafter_spec().shape.num_layers]
    return keys | small | {"layer_types": types, "dflash_config": keys["dflash_config"] | NESTED}


def their_model(keys: dict[str, Any]) -> Any:
    """Random, of the class that the config names, in float32; its weights are bfloat16 numbers where it says so."""
    config = transformers.Qwen3Config(**keys)
    config._attn_implementation = "sdpa"
    model = getattr(their_module("modeling.draft"), keys["architectures"][0])(config).eval()
    arrays = tiny.random_tensors({key: tuple(x.shape) for key, x in model.state_dict().items()})
    stored = getattr(torch, keys.get("dtype", "float32"))
    model.load_state_dict({key: torch.from_numpy(x).to(stored) for key, x in arrays.items()})
    return model.requires_grad_(False)


def saved(model: Any, folder: Path) -> Path:
    """As their exporter leaves it."""
    stored = getattr(torch, str(model.config.dtype or "float32").removeprefix("torch."))
    model.save_pretrained(folder, state_dict={key: x.to(stored) for key, x in model.state_dict().items()})
    their_module("export.checkpoint_io").apply_legacy_rope_scaling(str(folder))
    return folder


def tables() -> dict[str, np.ndarray]:
    """The target's, which drafters share."""
    return tiny.random_tensors(
        dict.fromkeys(("embed_tokens.weight", "lm_head.weight"), (tiny.VOCAB, tiny.HIDDEN)), seed=9
    )


def embedded(ids: Any) -> Any:
    """Rows of the target's embedding."""
    return torch.from_numpy(tables()["embed_tokens.weight"])[ids]


def scored(hidden: Any) -> Any:
    """Logits by the target's head."""
    return hidden @ torch.from_numpy(tables()["lm_head.weight"]).T


def their_draft(model: Any, taps: np.ndarray) -> Draft:
    """The block behind `taps`, which come in two parts; of the positions that predict."""
    ids = torch.tensor([[ANCHOR] + [model.mask_token_id] * (tiny.BLOCK - 1)])
    cache, hidden = transformers.DynamicCache(), torch.empty(0)
    for start, part in ((CUT, taps[:CUT]), (CONTEXT, taps[CUT:])):
        hidden = model(
            target_hidden=torch.from_numpy(part)[None],
            noise_embedding=embedded(ids),
            position_ids=torch.arange(cache.get_seq_length(), start + tiny.BLOCK)[None],
            past_key_values=cache,
            use_cache=True,
            is_causal=False,
        )
        cache.crop(-tiny.BLOCK)
    if type(model).__name__ == "DFlashDraftModel":
        return _arrays(hidden[:, 1:], scored(hidden[:, 1:]), scored(hidden[:, 1:]).argmax(-1), None)
    drafted, logits = scored(hidden).argmax(-1), scored(hidden)
    if model.markov_head is not None:
        drafted, logits = model.markov_head.sample_block_tokens(
            logits, first_prev_token_ids=ids[:, 0], hidden_states=hidden
        )
    previous = torch.cat([ids[:, :1], drafted[:, :-1]], dim=1)
    return _arrays(hidden, logits, drafted, model.predict_confidence(hidden, prev_token_ids=previous))


def _arrays(hidden: Any, logits: Any, ids: Any, confidence: Any) -> Draft:
    confidence = torch.full(ids.shape, torch.inf) if confidence is None else confidence
    found = {"ids": ids, "logits": logits, "confidence": confidence, "hidden": hidden}
    return {name: tensor[0].numpy() for name, tensor in found.items()}


def trained(
    model: Any, taps: np.ndarray, ids: np.ndarray, anchors: tuple[int, ...], patch: pytest.MonkeyPatch
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What their trainer makes of a sequence: of the block at each of `anchors` the states [B, H], and the ids [B] that
    its positions learn and how much each counts."""
    family = their_module("algorithms.common.dflash_family_model")
    dspark, calls = type(model).__name__ == "DSparkDraftModel", list[Any]()
    patch.setattr(family, "checkpointed_chunk_reduce", lambda f, *args, **_: calls.append(args) or f(*args))
    kind = family.OnlineDSparkModel if dspark else family.OnlineDFlashModel
    trainer = kind(model, scored, embedded, 3, block_size=tiny.BLOCK, attention_backend="sdpa")
    chosen = torch.tensor([anchors]), torch.ones(1, len(anchors), dtype=torch.bool)
    patch.setattr(trainer, "_sample_anchor_positions", lambda *_: chosen)
    last = (torch.zeros(1, len(ids), tiny.HIDDEN),) if dspark else ()
    trainer(torch.from_numpy(ids)[None], torch.from_numpy(taps)[None], torch.ones(1, len(ids)), *last)
    hidden, *rest = calls[0]
    labels, weights = rest[1:3] if dspark else rest
    yield from zip(*(tensor[0].numpy() for tensor in (hidden, labels, weights)), strict=True)
