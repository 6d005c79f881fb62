"""DeepSpec's own modules beside our oracle and our graph, where its source is at hand.

DSPARK_TEST_DEEPSPEC names a checkout of it. It runs with the transformers of its requirements.txt and with any torch.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from dspark_export.checkpoints import open_drafter
from tests.support import tiny
from tests.support.block_drafts import Draft, compare, our_drafts
from tests.support.gemma4_drafters import BFLOAT16, KINDS, write_gemma4_drafter

SOURCE = os.environ.get("DSPARK_TEST_DEEPSPEC", "")
pytestmark = pytest.mark.skipif(not SOURCE, reason="DSPARK_TEST_DEEPSPEC does not name a checkout of DeepSpec")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
if SOURCE and not transformers.__version__.startswith("5.10."):
    pytest.skip("DeepSpec runs with transformers 5.10", allow_module_level=True)

CONTEXT, CUT, ANCHOR = 23, 14, 17
QWEN3 = {"vanilla": tiny.drafter_spec(), "gated": tiny.drafter_spec("gated"), "rnn": tiny.drafter_spec("rnn")}
QWEN3 |= {"dflash": tiny.drafter_spec("none", confidence=False)}
CASES = [("gemma4", kind) for kind in KINDS] + [("qwen3", kind) for kind in QWEN3]
CLASSES = {"gemma4": ("Gemma4DSparkModel", "Gemma4TextConfig"), "qwen3": ("Qwen3DSparkModel", "Qwen3Config")}


def written(folder: Path, name: str, kind: str) -> Path:
    if name == "gemma4":
        return write_gemma4_drafter(folder, **KINDS[kind])
    tiny.write_drafter(folder, QWEN3[kind])
    tables = tiny.random_tensors(
        {f"{which}.weight": (tiny.VOCAB, tiny.HIDDEN) for which in ("embed_tokens", "lm_head")}
    )
    tiny.save_file(load_file(folder / "model.safetensors") | tables, folder / "model.safetensors")
    return folder


def theirs(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Their module with the weights in `folder`."""
    monkeypatch.setattr(sys, "path", [SOURCE, *sys.path])
    module, config_class = CLASSES[name]
    keys = json.loads((folder / "config.json").read_text())
    config = getattr(transformers, config_class)(**keys | {"num_anchors": 4})
    config._attn_implementation = "sdpa"
    model = getattr(importlib.import_module(f"deepspec.modeling.dspark.{name}"), module)(config).eval()
    arrays = load_file(folder / "model.safetensors")
    model.load_state_dict({key: torch.from_numpy(np.array(x)) for key, x in arrays.items()}, strict=True)
    return model.requires_grad_(False)


def their_drafts(model: Any, taps: np.ndarray) -> Draft:
    """The block behind `taps`, which come in two parts."""
    ops = importlib.import_module("deepspec.eval.dspark.draft_ops")
    ids = torch.tensor([[ANCHOR] + [model.mask_token_id] * (model.block_size - 1)])
    cache, hidden = transformers.DynamicCache(), torch.empty(0)
    for start, part in ((CUT, taps[:CUT]), (CONTEXT, taps[CUT:])):
        hidden = ops.forward_dspark_draft_block(
            model,
            draft_input_ids=ids,
            position_ids=torch.arange(CONTEXT + model.block_size)[None],
            past_key_values_draft=cache,
            target_hidden_states=torch.from_numpy(part)[None],
            start=start,
            block_size=model.block_size,
        )
    base = model.compute_logits(hidden)
    drafted, logits = model.sample_draft_tokens(base, first_prev_token_ids=ids[:, 0], hidden_states=hidden)
    confidence = torch.full((1, model.block_size), torch.inf)
    if model.confidence_head is not None:
        previous = torch.cat([ids[:, :1], drafted[:, :-1]], dim=1)
        confidence = model.predict_confidence_step(hidden, prev_token_ids=previous)
    found = {"ids": drafted, "logits": logits, "confidence": confidence, "hidden": hidden}
    return {name: tensor[0].numpy() for name, tensor in found.items()}


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_drafts_are_deepspec_s(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path, name, kind)
    drafter = open_drafter(folder, tiny.target_spec())
    taps = np.random.default_rng(2).standard_normal((CONTEXT, drafter.spec.feature_size), np.float32)
    expected = their_drafts(theirs(folder, name, monkeypatch), taps)
    compare(f"{name}, {kind}", our_drafts(drafter, taps, ANCHOR, tmp_path), expected)


def test_the_scale_is_rounded_as_deepspec_rounds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = theirs(write_gemma4_drafter(tmp_path / "single"), "gemma4", monkeypatch).embed_tokens.bfloat16()
    half = open_drafter(write_gemma4_drafter(tmp_path / "half", dtype=BFLOAT16), tiny.target_spec())
    assert half.spec.embedding_scale == float(module.embed_scale.to(module.weight.dtype))
