"""DeepSpec's own Eagle3 modules beside our oracle and our graph, where its source is at hand.

DSPARK_TEST_DEEPSPEC names a checkout of it; see `test_deepspec_source`.
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
from tests.support import chain_runs
from tests.support.chain_layouts import TTT, deep_target, write_deepspec

SOURCE = os.environ.get("DSPARK_TEST_DEEPSPEC", "")
pytestmark = pytest.mark.skipif(not SOURCE, reason="DSPARK_TEST_DEEPSPEC does not name a checkout of DeepSpec")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
if SOURCE and not transformers.__version__.startswith("5.10."):
    pytest.skip("DeepSpec runs with transformers 5.10", allow_module_level=True)

CLASSES = {"gemma4": ("Gemma4Eagle3Model", "Gemma4TextConfig"), "qwen3": ("Qwen3Eagle3Model", "Qwen3Config")}


def theirs(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Their module with the weights in `folder`."""
    monkeypatch.setattr(sys, "path", [SOURCE, *sys.path])
    module, config_class = CLASSES[name]
    config = getattr(transformers, config_class)(**json.loads((folder / "config.json").read_text()))
    config._attn_implementation = "sdpa"
    model = getattr(importlib.import_module(f"deepspec.modeling.eagle3.{name}"), module)(config).eval()
    arrays = load_file(folder / "model.safetensors")
    model.load_state_dict({key: torch.from_numpy(np.array(x)) for key, x in arrays.items()}, strict=True)
    return model.requires_grad_(False)


def their_drafts(model: Any, features: np.ndarray, ids: np.ndarray) -> chain_runs.Drafts:
    """Their evaluator's proposal, greedy, over features that come in two parts as accepted tokens do."""
    cache, start, hidden = transformers.DynamicCache(), 0, torch.empty(0)
    for part in (slice(0, chain_runs.CUT), slice(chain_runs.CUT, None)):
        taps, behind = torch.from_numpy(features[part])[None], torch.from_numpy(ids[part])[None]
        positions = torch.arange(start, start + behind.shape[1])[None]
        hidden = model.extend_draft_cache(taps, behind, positions, cache)
        start += behind.shape[1]
    drafted, lines = [], []
    for step in range(TTT):
        logits = model.compute_logits(hidden)
        lines.append(logits[0, -1])
        drafted.append(logits[:, -1].argmax(-1, keepdim=True))
        position = torch.tensor([[start + step]])
        hidden = model(hidden_states=hidden, input_ids=drafted[-1], position_ids=position, past_key_values=cache)
    return torch.cat(drafted, 1)[0].numpy(), torch.stack(lines).numpy()


@pytest.mark.parametrize("name", CLASSES)
def test_drafts_are_deepspec_s(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_deepspec(tmp_path, name)
    drafter = open_drafter(folder, deep_target())
    features, ids = chain_runs.random_input(drafter.spec)
    expected = their_drafts(theirs(folder, name, monkeypatch), features, ids)
    for whose, ours in chain_runs.drafts(drafter, features, ids, {}, tmp_path).items():
        chain_runs.assert_alike(f"{name}, {whose}", ours, expected)
