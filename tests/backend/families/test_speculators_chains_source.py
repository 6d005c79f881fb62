"""The speculators library's own Eagle3 and MTP modules beside our oracle and our graph, where its source is at hand.

DSPARK_TEST_SPECULATORS names a folder that holds the package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dspark_export.checkpoints import DrafterCheckpoint, DrafterSpec, open_drafter
from tests.support import chain_runs, chains, tiny
from tests.support.chain_layouts import ENTERED, mtp_spec, speculators_spec
from tests.support.stand_in_modules import stand_in

SOURCE = os.environ.get("DSPARK_TEST_SPECULATORS", "")
pytestmark = pytest.mark.skipif(not SOURCE, reason="DSPARK_TEST_SPECULATORS names no folder with the package")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

UNUSED = "openai openai.types openai.types.chat openai.types.completion datasets hs_connectors"
SPECS: dict[str, DrafterSpec] = {
    "llama": speculators_spec(),
    "qwen3": speculators_spec("qwen3"),
    "added to what is normed": speculators_spec(residual_normed=True),
    "taps normed as one": speculators_spec(tap_norm="whole", residual_normed=True),
    "taps normed each, state normed": speculators_spec("qwen3", tap_norm="each", state_normed=True),
    "all tokens, two layers": speculators_spec(reduced=False, layers=2),
}


@pytest.fixture(scope="module")
def library() -> Iterator[SimpleNamespace]:
    """Its classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [SOURCE, *sys.path])
        stand_in(patch, *UNUSED.split())
        from speculators import config
        from speculators.models import eagle3, mtp
        from speculators.proposals import greedy

        yield SimpleNamespace(**{name: x for m in (config, greedy, eagle3, mtp) for name, x in vars(m).items()})


def common(library: SimpleNamespace, spec: DrafterSpec, method: str) -> dict[str, Any]:
    """Keys of both configs."""
    kind = "Qwen3Config" if spec.shape.layers[0].qk_norm else "LlamaConfig"
    decoder = getattr(transformers, kind)(**tiny.decoder_config(spec.shape))
    decoder._attn_implementation = "eager" if method == "eagle3" else "sdpa"
    proposal = library.GreedyTokenProposalConfig(speculative_tokens=spec.block_size)
    verifier = library.VerifierConfig(name_or_path=None, architectures=["LlamaForCausalLM"])
    how = library.SpeculatorsConfig(
        algorithm=method, proposal_methods=[proposal], default_proposal_method="greedy", verifier=verifier
    )
    return {"transformer_layer_config": decoder, "speculators_config": how}


def with_random_weights(model: Any) -> Any:
    shapes = {name: tuple(x.shape) for name, x in model.named_parameters()}
    arrays = {name: torch.from_numpy(x) for name, x in tiny.random_tensors(shapes).items()}
    model.load_state_dict(arrays, strict=False)
    return model.eval().float().requires_grad_(False)


def saved(model: Any, folder: Path) -> tuple[DrafterCheckpoint, dict[str, np.ndarray]]:
    """What we read of the model as it saves itself, and the tables that it leaves to the target."""
    model.save_pretrained(folder)
    tables = {f"{name}.weight": getattr(model, name).weight.numpy() for name in ("embed_tokens", "lm_head")}
    return open_drafter(folder, tiny.target_spec()), tables


def eagle3_model(library: SimpleNamespace, spec: DrafterSpec) -> Any:
    chain = spec.chain
    assert chain is not None, "these are chains"
    config = library.Eagle3SpeculatorConfig(
        **common(library, spec, "eagle3"),
        draft_vocab_size=spec.draft_vocab_size,
        eagle_aux_hidden_state_layer_ids=ENTERED,
        norm_before_residual=chain.residual_normed,
        norm_output=chain.state_normed,
        norm_before_fc=chain.tap_norm == "whole",
        fc_norm=chain.tap_norm == "each",
    )
    model = with_random_weights(library.Eagle3DraftModel(config))
    if spec.draft_vocabulary:
        kept = torch.tensor(spec.draft_vocabulary)
        model.load_vocab_mappings(torch.isin(torch.arange(tiny.VOCAB), kept), kept - torch.arange(len(kept)))
    return model


def their_eagle3(model: Any, features: np.ndarray, ids: np.ndarray, drafted: np.ndarray) -> chain_runs.Drafts:
    """Their training's steps at the last position, which are fed with the tokens `drafted`."""
    steps, lines = len(drafted), list[Any]()
    hook = model.lm_head.register_forward_hook(lambda *given: lines.append(given[2][0, len(ids) - 1]))
    sequence = torch.from_numpy(np.concatenate([ids, drafted]))[None]
    taps = torch.zeros(1, sequence.shape[1], features.shape[1])
    taps[0, : len(ids)] = torch.from_numpy(features)
    model(taps, sequence, torch.zeros_like(sequence), ttt_steps=steps)
    hook.remove()
    logits = torch.stack(lines)
    places = logits.argmax(-1)
    return (places if model.d2t is None else places + model.d2t[places]).numpy(), logits.numpy()


@pytest.mark.parametrize("case", SPECS)
def test_eagle3_drafts_are_the_library_s(library: SimpleNamespace, case: str, tmp_path: Path) -> None:
    """Each step's logits, which the state that the step before left decides."""
    spec = SPECS[case]
    model = eagle3_model(library, spec)
    drafter, tables = saved(model, tmp_path / "saved")
    assert drafter.spec.chain == spec.chain
    features, ids = chain_runs.random_input(drafter.spec)
    for whose, ours in chain_runs.drafts(drafter, features, ids, tables, tmp_path).items():
        expected = their_eagle3(model, features, ids, ours[0])
        columns = ours[1][:, list(spec.draft_vocabulary)] if spec.draft_vocabulary else ours[1]
        chain_runs.assert_alike(f"{case}, {whose}", (ours[0], columns), expected)


def their_mtp(model: Any, features: np.ndarray, ids: np.ndarray, steps: int) -> chain_runs.Drafts:
    """Their layer, one token after the other over a cache, as vLLM runs it; their training has none."""
    cache, lines, drafted = transformers.DynamicCache(), list[Any](), list[Any]()
    state, behind, start = torch.from_numpy(features)[None], torch.from_numpy(ids)[None], 0
    for _ in range(steps):
        positions = torch.arange(start, start + behind.shape[1])[None]
        state = model.mtp_layers[0](
            hidden_states=state,
            token_embeddings=model.embed_tokens(behind),
            position_ids=positions,
            position_embeddings=model.rotary_emb(state, positions),
            past_key_values=cache,
        )[:, -1:]
        start += behind.shape[1]
        lines.append(model.lm_head(state)[0, -1])
        behind = lines[-1].argmax()[None, None]
        drafted.append(behind[0])
    return torch.cat(drafted).numpy(), torch.stack(lines).numpy()


def test_mtp_drafts_are_the_library_s(library: SimpleNamespace, tmp_path: Path) -> None:
    spec = mtp_spec(length=chains.LENGTH)
    model = with_random_weights(library.MTPDraftModel(library.MTPSpeculatorConfig(**common(library, spec, "mtp"))))
    drafter, tables = saved(model, tmp_path / "saved")
    assert drafter.spec == spec
    features, ids = chain_runs.random_input(drafter.spec)
    expected = their_mtp(model, features, ids, chains.LENGTH)
    for whose, ours in chain_runs.drafts(drafter, features, ids, tables, tmp_path).items():
        chain_runs.assert_alike(f"mtp, {whose}", ours, expected)
