"""MiMo's MTP head beside transformers' Qwen2 layer, around which its maker's modeling file puts four modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_engines import GenerationRequest, Runtime, RuntimeOptions, open_bundle
from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import Limits
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.checkpoints import open_drafter, open_target
from tests.support import chain_runs, tiny
from tests.support.chain_layouts import MIMO_HEAD, write_mimo

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def their_head(weights: Any) -> Any:
    """The layer, and norms, projection and rotation around it."""
    from transformers.models.qwen2 import modeling_qwen2 as qwen2

    keys = tiny.decoder_config(MIMO_HEAD.shape) | {"layer_types": ["full_attention"]}
    config = transformers.Qwen2Config(**keys)
    config._attn_implementation = "sdpa"
    head = torch.nn.Module()
    head.layer, head.rotary = qwen2.Qwen2DecoderLayer(config, 0), qwen2.Qwen2RotaryEmbedding(config)
    for name in ("embedding_norm", "hidden_norm", "norm"):
        setattr(head, name, qwen2.Qwen2RMSNorm(tiny.HIDDEN, config.rms_norm_eps))
    head.fc = torch.nn.Linear(2 * tiny.HIDDEN, tiny.HIDDEN, bias=False)
    names = {name.replace("stages.0.", "").replace("layers.0.", "layer."): name for name in weights}
    head.load_state_dict({theirs: torch.from_numpy(weights[name]) for theirs, name in names.items()}, strict=True)
    return head.eval().requires_grad_(False)


def their_drafts(head: Any, features: np.ndarray, ids: np.ndarray, tables: dict[str, np.ndarray]) -> chain_runs.Drafts:
    """The state first, then the embedding; what is behind the final norm is scored and handed on."""
    embedding, scores = (torch.from_numpy(tables[name]) for name in ("embed_tokens.weight", "lm_head.weight"))
    cache, lines, start = transformers.DynamicCache(), list[Any](), 0
    state, behind = torch.from_numpy(features)[None], torch.from_numpy(ids)
    for _ in range(MIMO_HEAD.draft_length):
        positions = torch.arange(start, start + len(behind))[None]
        joined = [head.hidden_norm(state), head.embedding_norm(embedding[behind][None])]
        x, rotation = head.fc(torch.cat(joined, -1)), head.rotary(state, positions)
        layer = head.layer(x, position_ids=positions, past_key_values=cache, position_embeddings=rotation)
        state = head.norm(layer)[:, -1:]
        start += len(behind)
        lines.append(scores @ state[0, -1])
        behind = lines[-1].argmax()[None]
    return np.array([int(line.argmax()) for line in lines]), torch.stack(lines).numpy()


def test_drafts_are_those_of_transformers_layer(tmp_path: Path) -> None:
    folder = write_mimo(tmp_path)
    target = open_target(folder)
    drafter = open_drafter(folder, target.spec)
    tables = {name: target.weights[name] for name in ("embed_tokens.weight", "lm_head.weight")}
    features, ids = chain_runs.random_input(drafter.spec)
    expected = their_drafts(their_head(drafter.weights), features, ids, tables)
    for whose, ours in chain_runs.drafts(drafter, features, ids, tables, tmp_path).items():
        chain_runs.assert_alike(f"MiMo, {whose}", ours, expected)


def test_a_directory_that_is_target_and_drafter_makes_a_bundle(tmp_path: Path) -> None:
    """What it says does not depend on whether its head drafts."""
    folder = write_mimo(tmp_path / "mimo")
    limits = Limits(context_length=96, prefill_chunk=16, slots=1)
    build_bundle(BuildPlan(folder, folder, tmp_path / "bundle", "onnxruntime", limits), Silent())
    request, found = GenerationRequest([5, 6, 7, 8], 12), {}
    for speculation in ("on", "off"):
        options = RuntimeOptions(engines=EngineOptions(threads=1), speculation=speculation)
        with Runtime(open_bundle(tmp_path / "bundle"), options) as runtime:
            found[speculation] = runtime.generate([request])[0]
    assert len(found["on"].token_ids) > 2
    assert found["on"].token_ids == found["off"].token_ids
