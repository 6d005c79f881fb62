"""z-lab's DFlash by transformers' own generator of candidates, beside our oracle and our graph.

Its one drafter of that kind, Muse Glimmer's, is with full layers what z-lab's is, under other names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from dspark_export.checkpoints import TargetCheckpoint, open_drafter, open_target
from tests.support import tiny
from tests.support.bad_dflash import write_dflash
from tests.support.block_drafts import Draft, compare, our_drafts

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
candidates = pytest.importorskip("transformers.generation.candidate_generator")
if not hasattr(candidates, "DFlashTokenCandidateGenerator"):
    pytest.skip("this transformers has no DFlash", allow_module_level=True)

CONTEXT, CUT = 23, 14
IDS = np.random.default_rng(5).integers(4, tiny.VOCAB, CONTEXT + 1)
NAMES = {"fc.weight": "encoder.fc.weight", "hidden_norm.weight": "encoder.output_norm_enc.weight"}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 16.0, "original_max_position_embeddings": 16}


def their_drafter(folder: Path, rope: dict[str, Any]) -> Any:
    """Their module with the weights in `folder`."""
    keys = tiny.decoder_config(tiny.drafter_spec().shape) | {"rope_parameters": rope}
    config = transformers.MuseGlimmerAssistantConfig(
        **keys,
        layer_types=["full_attention"] * 2,
        block_size=tiny.BLOCK,
        mask_token_id=3,
        target_layer_ids=list(tiny.TAPS),
    )
    model = transformers.MuseGlimmerAssistantModel(config).eval()
    arrays = load_file(folder / "model.safetensors")
    model.load_state_dict({NAMES.get(name, name): torch.from_numpy(x) for name, x in arrays.items()})
    return model.requires_grad_(False)


def rounds(target: Any) -> Iterator[tuple[Any, int]]:
    """What the target gave for the tokens of two steps, and how many these are."""
    with torch.inference_mode():
        states = target(torch.from_numpy(IDS[None, :-1]), output_hidden_states=True).hidden_states
    for start, end in ((0, CUT), (CUT, CONTEXT)):
        yield SimpleNamespace(hidden_states=[x[:, start:end] for x in states]), end - start


def their_draft(target: Any, drafter: Any) -> Draft:
    """The block behind `IDS`, of which the last is the anchor."""
    tables = target.get_input_embeddings(), target.get_output_embeddings()
    settings = transformers.GenerationConfig(max_length=99, do_sample=False)
    generator = candidates.DFlashTokenCandidateGenerator(drafter, *tables, settings)
    hidden: list[Any] = []
    drafter.register_forward_hook(lambda _module, _inputs, out: hidden.append(out.last_hidden_state[0, 1:]))
    end = 0
    with torch.inference_mode():
        for outputs, count in rounds(target):
            end += count
            seen = torch.from_numpy(IDS[None, : end + 1])
            kwargs = {"position_ids": torch.arange(end + 1)[None], "attention_mask": torch.ones_like(seen)}
            ids, logits = generator.get_candidates(seen, kwargs, outputs, False, count - 1)
    found = {"ids": ids[0, end + 1 :], "logits": logits[0], "hidden": hidden[-1]}
    found["confidence"] = torch.full((tiny.BLOCK - 1,), torch.inf)
    return {name: tensor.numpy() for name, tensor in found.items()}


def our_taps(target: TargetCheckpoint, layers: tuple[int, ...]) -> np.ndarray:
    """Of all tokens but the anchor, by our own reading of the target."""
    from dspark_export.parity import TargetModule

    module = TargetModule(target.spec, target.weights)
    with torch.inference_mode():
        _, states = module(torch.from_numpy(IDS[None, :-1]))
        return np.asarray(module.features(states, layers)[0])


@pytest.mark.parametrize("rope", [{"rope_type": "default", "rope_theta": 1e4}, YARN], ids=["plain", "yarn"])
def test_drafts_are_transformers_s(rope: dict[str, Any], tmp_path: Path) -> None:
    target = open_target(tiny.write_target(tmp_path / "target"))
    folder = write_dflash(tmp_path / "drafter")
    tiny.edit_config(folder, rope_parameters=rope)
    drafter = open_drafter(folder, target.spec)
    tables = dict.fromkeys(("embed_tokens.weight", "lm_head.weight"), target.weights["embed_tokens.weight"])
    ours = our_drafts(drafter, our_taps(target, drafter.spec.target_layer_ids), int(IDS[-1]), tmp_path, tables)
    whole = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "target").eval()
    compare(rope["rope_type"], ours, their_draft(whole, their_drafter(folder, rope)))
