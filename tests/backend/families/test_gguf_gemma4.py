"""Gemma 4 out of a GGUF file: our graph and our oracle give the logits and states of transformers' model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dspark_export.checkpoints.dialects.gguf import read_gguf_target
from dspark_export.checkpoints.gguf_file import GgufFile
from tests.backend.families import test_families as directory
from tests.backend.families.test_families import CONTEXTS, Family, family
from tests.backend.families.test_gguf_families import CASES
from tests.support.tiny_gemma4_gguf import of_model, write_gemma4_gguf

__all__ = ["family"]  # a fixture
FAST = "gemma4, shared keys"
"""The others' specs and weights are held against the directory's in test_gguf_families.py."""
GEMMA4 = [
    pytest.param(case, marks=() if case == FAST else pytest.mark.slow) for case in CASES if case.startswith("gemma4")
]


def read_back(family: Family, path: Path, **changes: np.ndarray) -> Family:
    """The same model, read from the file that it is written to."""
    config, state = of_model(family.model)
    found = read_gguf_target(GgufFile(write_gemma4_gguf(path, config, state | changes)))
    return Family(family.model, *found)


@pytest.mark.parametrize("family", GEMMA4, indirect=True)
def test_the_graph_of_a_file_is_transformers_own(family: Family, tmp_path: Path) -> None:
    found = read_back(family, tmp_path / "model.gguf")
    for context in CONTEXTS:
        directory.test_a_family_is_transformers_own(found, context, tmp_path)
    directory.test_the_oracle_of_a_family_is_transformers_own(found, 101)


@pytest.mark.parametrize("family", [FAST], indirect=True)
def test_keys_that_nobody_reads_may_be_there(family: Family, tmp_path: Path) -> None:
    """Released checkpoints have keys and values of the layers that take others', and the converter writes them."""
    last = {"k_proj": (64, 48), "v_proj": (64, 48), "k_norm": (32,)}
    unread = {f"model.layers.6.self_attn.{name}.weight": np.ones(shape, np.float32) for name, shape in last.items()}
    found = read_back(family, tmp_path / "model.gguf", **unread)
    assert found.spec.shape.layers[6].keys_from == 3
    assert set(found.weights) == set(family.weights)


@pytest.mark.parametrize("family", ["gemma4, experts"], indirect=True)
def test_gates_and_ups_of_experts_may_be_two_tensors(family: Family, tmp_path: Path) -> None:
    """As llama.cpp reads them where there is no stack of both."""
    config, state = of_model(family.model)
    for i in range(config["num_hidden_layers"]):
        both = state.pop(f"model.layers.{i}.experts.gate_up_proj")
        for which, part in zip(("gate", "up"), np.split(both, 2, axis=1), strict=True):
            state[f"blk.{i}.ffn_{which}_exps.weight"] = np.ascontiguousarray(part)
    weights = read_gguf_target(GgufFile(write_gemma4_gguf(tmp_path / "model.gguf", config, state)))[1]
    for name in family.weights:
        np.testing.assert_array_equal(weights[name], family.weights[name], err_msg=name)


@pytest.mark.parametrize("family", ["gemma4"], indirect=True)
def test_a_head_of_its_own_is_read(family: Family, tmp_path: Path) -> None:
    config, state = of_model(family.model)
    state["lm_head.weight"] = 2 * state["model.embed_tokens.weight"]
    path = write_gemma4_gguf(tmp_path / "model.gguf", config | {"tie_word_embeddings": False}, state)
    spec, weights = read_gguf_target(GgufFile(path))
    assert not spec.tied_embeddings
    np.testing.assert_array_equal(weights["lm_head.weight"], state["lm_head.weight"])
