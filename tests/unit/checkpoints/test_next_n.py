"""Heads that predict the token after next, with DeepSeek-V3's names. `bad_chains` has what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_export.checkpoints import open_drafter, with_draft_length
from dspark_export.checkpoints.dialects import drafter_dialect
from tests.support import chains, tiny


@pytest.mark.parametrize("stages", [1, 2])
def test_it_is_read(stages: int, tmp_path: Path) -> None:
    """The layers are numbered behind the target's. The state that is read lies behind the target's final norm, and so
    do the head's own; there is no embedding and no head, as in the files of newer models."""
    folder = chains.write_mtp(tmp_path, stages=stages)
    assert drafter_dialect(folder).name == "NextN"
    drafter, spec = open_drafter(folder, tiny.target_spec()), chains.spec("mtp", stages=stages, state_normed=True)
    assert drafter.spec == replace(spec, block_size=3)
    for name, array in chains.tensors_of(spec).items():
        np.testing.assert_array_equal(drafter.weights[name], array)


@pytest.mark.parametrize("name", ["embed_tokens", "shared_head.head"])
def test_copies_of_the_target_s_tables_are_read(name: str, tmp_path: Path) -> None:
    folder = chains.write_mtp(tmp_path)
    table = tiny.random_tensors({"table": (tiny.VOCAB, tiny.HIDDEN)})["table"]
    tensors = load_file(folder / "model.safetensors") | {f"model.layers.{tiny.LAYERS}.{name}.weight": table}
    save_file(tensors, folder / "model.safetensors")
    drafter, head = open_drafter(folder, tiny.target_spec()), name.startswith("shared_head")
    assert (drafter.spec.own_embedding, drafter.spec.own_head) == (not head, head)
    np.testing.assert_array_equal(drafter.weights["lm_head.weight" if head else "embed_tokens.weight"], table)


def test_more_tokens_than_stages_are_drafted(tmp_path: Path) -> None:
    folder = chains.write_mtp(tmp_path, stages=2)
    assert with_draft_length(open_drafter(folder, tiny.target_spec()), 7).spec.draft_length == 7


def test_keys_that_transformers_leaves_out_are_its_defaults(tmp_path: Path) -> None:
    """A config written as the difference to transformers' defaults."""
    folder = chains.write_mtp(tmp_path)
    tiny.edit_config(folder, hidden_act=None, attention_bias=None, rms_norm_eps=None, max_position_embeddings=None)
    tiny.edit_config(folder, rope_parameters=None)
    assert open_drafter(folder, tiny.target_spec()).spec.shape.rms_norm_eps == 1e-6
