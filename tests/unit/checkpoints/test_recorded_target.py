"""The target that a drafter records, in every layout that can say it, and what targets are called."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DrafterCheckpoint, open_drafter, open_target
from dspark_export.checkpoints.converting import convert_drafter
from dspark_export.checkpoints.dialects.speculators import SpeculatorsDialect
from dspark_export.checkpoints.expected import drafter_tensors
from dspark_export.checkpoints.trained_for import TrainedFor, repository
from tests.support import tiny
from tests.support.bad_dflash import write_dflash
from tests.support.tiny_gguf import write_gguf_target

NAME = "acme/Llama-3.1-8B-Instruct"


def deepspec(folder: Path) -> Path:
    tiny.edit_config(tiny.write_drafter(folder), target_model_name_or_path=NAME)
    return folder


def dflash(folder: Path) -> Path:
    tiny.edit_config(write_dflash(folder), target_model_name_or_path=NAME)
    return folder


def speculators(folder: Path) -> Path:
    folder.mkdir()
    spec, weights = tiny.drafter_spec(), tiny.weights_of(tiny.random_tensors(drafter_tensors(tiny.drafter_spec())))
    trained_for = TrainedFor(NAME, ("LlamaForCausalLM",))
    checkpoint = DrafterCheckpoint(path=folder, spec=spec, weights=weights, files=[], trained_for=trained_for)
    SpeculatorsDialect().write(checkpoint, folder)
    return folder


def gguf(folder: Path) -> Path:
    target = write_gguf_target(folder.with_name("target.gguf"))
    convert_drafter(deepspec(folder.with_name("whole")), target, "gguf", folder, lambda *_: None)
    return folder


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "deepspec": deepspec,
    "dflash": dflash,
    "speculators": speculators,
    "gguf": gguf,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_recorded_name_and_warns_of_another(layout: str, tmp_path: Path) -> None:
    drafter = LAYOUTS[layout](tmp_path / "drafter")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_drafter(drafter, tiny.target_spec(), ["meta-llama/Meta-Llama-3.1-8B-Instruct-FP8@01"])
    assert repository(found.trained_for.name) == NAME
    with pytest.warns(UserWarning, match="and the target is called acme/Chat-8B: unless these are the same") as caught:
        open_drafter(drafter, tiny.target_spec(), ["acme/Chat-8B@01"])
    assert found.trained_for.name in str(caught[0].message)


@pytest.mark.parametrize("to", ["deepspec", "speculators", "gguf"])
@pytest.mark.parametrize("layout", ["deepspec", "speculators", "gguf"])
def test_a_conversion_keeps_the_recorded_name(layout: str, to: str, tmp_path: Path) -> None:
    drafter, target = LAYOUTS[layout](tmp_path / "drafter"), write_gguf_target(tmp_path / "t.gguf")
    convert_drafter(drafter, target, to, tmp_path / "out", lambda *_: None)
    assert repository(open_drafter(tmp_path / "out", open_target(target).spec).trained_for.name) == NAME


def test_a_base_model_that_is_a_drafter_is_not_the_target(tmp_path: Path) -> None:
    """Whoever uploads a drafter's GGUF again names the drafter as its base."""
    tiny.edit_config(tiny.write_drafter(tmp_path / "whole"), target_model_name_or_path="z-lab/Qwen3-8B-DFlash-b16")
    target = write_gguf_target(tmp_path / "t.gguf")
    convert_drafter(tmp_path / "whole", target, "gguf", tmp_path / "d.gguf", lambda *_: None)
    assert open_drafter(tmp_path / "d.gguf", tiny.target_spec()).trained_for.name == ""


RECORDED: list[dict[str, Any]] = [{}, {"_name_or_path": None}, {"_name_or_path": ""}, {"_name_or_path": 7}]


def test_a_directory_is_called_what_its_config_says(tmp_path: Path) -> None:
    folder = tiny.write_target(tmp_path / "target")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for keys in RECORDED:
        path.write_text(json.dumps(config | keys))
        assert open_target(folder).names == (str(folder),)
    path.write_text(json.dumps(config | {"_name_or_path": NAME}))
    assert open_target(folder).names == (NAME, str(folder))


def test_a_gguf_file_is_called_what_its_keys_say(tmp_path: Path) -> None:
    keys = {"name": "Tiny", "base_model.count": 2, "base_model.0.repo_url": f"https://huggingface.co/{NAME}"}
    named = {f"general.{key}": value for key, value in (keys | {"base_model.1.name": "Other 1B"}).items()}
    path = write_gguf_target(tmp_path / "t.gguf", **named)
    assert open_target(path).names == ("Tiny", f"https://huggingface.co/{NAME}", "Other 1B", str(path))


def test_sizes_that_differ_are_refused_with_the_recorded_target(tmp_path: Path) -> None:
    tiny.edit_config(deepspec(tmp_path), num_target_layers=5)
    with pytest.raises(CheckpointError, match="num_target_layers 5, the target has 4") as caught:
        open_drafter(tmp_path, tiny.target_spec())
    assert caught.value.hint == f"this drafter was trained for {NAME}"
