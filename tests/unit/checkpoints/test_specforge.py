"""SpecForge's drafters: DeepSpec's model in another config."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DrafterSpec, open_drafter
from dspark_export.checkpoints.dialects import drafter_dialect
from tests.support import tiny
from tests.support.command_line import edit_json

HEADS = (
    "mask_token_id", "target_layer_ids", "markov_rank", "markov_head_type", "enable_confidence_head",
    "confidence_head_with_markov",
)  # fmt: skip


def moved(folder: Path, prefix: str = "", **nested: Any) -> Path:
    """DeepSpec's tiny drafter as SpecForge saves it, the heads' tensors called `prefix`…"""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    inner = {key: config.pop(key) for key in HEADS} | {"projector_type": "dspark", "attention_mode": "gqa"} | nested
    config |= {"architectures": ["DSparkDraftModel"], "dflash_config": inner, "sliding_window": None}
    path.write_text(json.dumps(config))
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    save_file({(prefix if "_head." in name else "") + name: array for name, array in tensors.items()}, weights)
    return folder


def inside(folder: Path, **keys: Any) -> None:
    """More keys in `dflash_config`."""
    edit_json(folder / "config.json", lambda config: config["dflash_config"].update(keys))


@pytest.mark.parametrize("prefix", ["", "logit_head."])
@pytest.mark.parametrize("kind", ["vanilla", "gated", "rnn"])
def test_it_is_deepspec_s(kind: str, prefix: str, tmp_path: Path) -> None:
    spec, target = tiny.drafter_spec(kind), tiny.target_spec()
    plain = open_drafter(tiny.write_drafter(tmp_path / "plain", spec), target)
    folder = moved(tiny.write_drafter(tmp_path / "moved", spec), prefix)
    with pytest.warns(UserWarning, match="whether the anchor's position predicts: its trainer has it so"):
        drafter = open_drafter(folder, target)
    assert drafter.spec == plain.spec
    for name, array in plain.weights.items():
        np.testing.assert_array_equal(drafter.weights[name], array)


def test_early_files_are_labelled_as_dflash(tmp_path: Path) -> None:
    folder = moved(tiny.write_drafter(tmp_path / "drafter"))
    tiny.edit_config(folder, architectures=["DFlashDraftModel"])
    with pytest.warns(UserWarning, match="SpecForge"):
        assert open_drafter(folder, tiny.target_spec()).spec == tiny.drafter_spec()


@pytest.mark.parametrize("copied", [True, False])
def test_files_that_were_normalised_for_sglang(copied: bool, tmp_path: Path) -> None:
    """SpecForge's script renames the class and copies the heads' keys, or finds them outside and leaves them there."""
    folder = moved(tiny.write_drafter(tmp_path / "drafter"))

    def normalise(config: dict[str, Any]) -> None:
        for key in HEADS[2:]:
            config[key] = config["dflash_config"][key] if copied else config["dflash_config"].pop(key)
        config["architectures"] = ["Qwen3DSparkModel"]

    edit_json(folder / "config.json", normalise)
    with pytest.warns(UserWarning, match="SpecForge"):
        assert open_drafter(folder, tiny.target_spec()).spec == tiny.drafter_spec()


@pytest.mark.parametrize(
    ("spec", "keys", "alpha"),
    [
        (tiny.drafter_spec(with_markov=False), ("markov_head_type", "confidence_head_with_markov"), None),
        (tiny.drafter_spec(), ("enable_confidence_head",), 1.0),
        (tiny.drafter_spec(confidence=False), ("enable_confidence_head", "confidence_head_with_markov"), 0.0),
        (tiny.drafter_spec("none", confidence=False), HEADS[2:], None),
    ],
    ids=["vanilla", "a confidence that was trained", "one that was not", "no heads"],
)
def test_what_is_left_out_means_what_its_class_takes(
    spec: DrafterSpec, keys: tuple[str, ...], alpha: float | None, tmp_path: Path
) -> None:
    folder = moved(tiny.write_drafter(tmp_path / "drafter", spec), confidence_head_alpha=alpha)

    def leave_out(config: dict[str, Any]) -> None:
        nested = config["dflash_config"]
        config["dflash_config"] = {key: value for key, value in nested.items() if key not in keys}

    edit_json(folder / "config.json", leave_out)
    with pytest.warns(UserWarning, match="SpecForge"):
        assert open_drafter(folder, tiny.target_spec()).spec == spec


def test_yarn_is_followed(tmp_path: Path) -> None:
    """SpecForge trains with it; it is nothing that came along from the target."""
    folder = moved(tiny.write_drafter(tmp_path / "drafter"))
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 32.0, "original_max_position_embeddings": 128}
    tiny.edit_config(folder, rope_parameters=rope)
    with pytest.warns(UserWarning, match="SpecForge"):
        layer = open_drafter(folder, tiny.target_spec()).spec.shape.layers[0]
    assert (layer.rope.kind, layer.rope.factor, layer.rope.original_max_positions) == ("yarn", 32.0, 128)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "experts": (lambda f: tiny.edit_config(f, n_routed_experts=8), "n_routed_experts is 8: a drafter with experts"),
    "a draft vocabulary": (lambda f: tiny.edit_config(f, draft_vocab_size=64), "draft_vocab_size is 64, and this"),
    "sliding layers": (
        lambda f: tiny.edit_config(f, layer_types=["sliding_attention"] * 2), "layer_types.0: Input should be 'full"
    ),
    "another's model": (
        lambda f: tiny.edit_config(f, architectures=["Lfm2DSparkDraftModel"]), "architectures is ['Lfm2DSparkDraftM"
    ),
    "pairs that are neighbours": (
        lambda f: tiny.edit_config(f, rope_is_neox_style=False), "rope_is_neox_style: Input should be True (found False"
    ),
    "causal blocks": (lambda f: inside(f, causal=True), "dflash_config.causal is True, which is not followed"),
    "windows by another key": (lambda f: inside(f, use_swa=True), "dflash_config.use_swa is True, which is not foll"),
    "two block sizes": (lambda f: inside(f, block_size=7), "block_size is both 5 and, in dflash_config, 7"),
    "heads that it does not speak of": (
        lambda f: edit_json(f / "config.json", lambda c: c["dflash_config"].pop("enable_confidence_head")),
        "unknown tensor 'confidence_head.proj.bias'",
    ),
    "a head of another kind": (
        lambda f: moved(tiny.write_drafter(f), markov_head_type="conv"), "markov_head_type: Input should be 'vanilla'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, tmp_path: Path) -> None:
    spoil, said = REFUSED[case]
    folder = moved(tiny.write_drafter(tmp_path / "drafter"))
    spoil(folder)
    with pytest.raises(CheckpointError) as caught:
        open_drafter(folder, tiny.target_spec())
    assert said in str(caught.value)


def test_dflash_is_not_taken_for_it(tmp_path: Path) -> None:
    folder = moved(tiny.write_drafter(tmp_path / "drafter"), projector_type=None)
    assert drafter_dialect(folder).name == "DeepSpec"
    with pytest.raises(CheckpointError, match="not a drafter that this version reads"):
        open_drafter(folder, tiny.target_spec())


def test_a_mark_at_the_beginning_of_the_config_changes_nothing(tmp_path: Path) -> None:
    folder = moved(tiny.write_drafter(tmp_path / "drafter"))
    config = folder / "config.json"
    config.write_bytes(codecs.BOM_UTF8 + config.read_bytes())
    assert drafter_dialect(folder).name == "SpecForge"
