"""The target that a drafter records: what counts as the same model, in every layout that can say it."""

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
from dspark_export.checkpoints.seams import get_family
from dspark_export.checkpoints.trained_for import TrainedFor, base_name, other_name, repository
from tests.support import tiny
from tests.support.bad_dflash import write_dflash
from tests.support.tiny_gguf import write_gguf_target

NAME = "acme/Llama-3.1-8B-Instruct"
SAME_MODEL = {
    "qwen3-8b": (
        "Qwen/Qwen3-8B", "Qwen/Qwen3-8B@main", "qwen/qwen3-8b", "Qwen/Qwen3-8B-FP8", "RedHatAI/Qwen3-8B-FP8-dynamic",
        "RedHatAI/Qwen3-8B-FP8-block", "Qwen/Qwen3-8B-AWQ", "JunHowie/Qwen3-8B-GPTQ-Int4", "nvidia/Qwen3-8B-NVFP4",
        "nvidia/Qwen3-8B-FP4", "unsloth/Qwen3-8B-unsloth-bnb-4bit", "unsloth/Qwen3-8B-bnb-4bit", "Qwen/Qwen3-8B-GGUF",
        "RedHatAI/Qwen3-8B-quantized.w4a16", "mlx-community/Qwen3-8B-8bit", "mradermacher/Qwen3-8B-i1-GGUF",
        "/models/Qwen3-8B/", "/models/Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B-UD-Q4_K_XL.gguf", "Qwen3-8B-IQ4_XS.gguf",
        "Qwen3-8B-Q8_0-00001-of-00003.gguf", "Qwen3-8B-BF16.gguf", "Qwen3 8B", "https://huggingface.co/Qwen/Qwen3-8B",
        "https://huggingface.co/Qwen/Qwen3-8B/tree/main", "/c/hub/models--Qwen--Qwen3-8B/snapshots/0123abcd",
    ),
    "llama-3-1-8b-instruct": (
        "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3.1-8B-Instruct", "Meta Llama 3.1 8B Instruct",
        "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "nvidia/Llama-3.1-8B-Instruct-FP8",
        "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4", "TheBloke/Llama-3.1-8B-Instruct-GPTQ-4bit-128g",
    ),
    "gpt-oss-20b": ("openai/gpt-oss-20b", "unsloth/gpt-oss-20b-BF16", "ggml-org/gpt-oss-20b-GGUF", "gpt-oss-20b-mxfp4"),
    "gemma-3-12b-it": ("google/gemma-3-12b-it", "google/gemma-3-12b-it-qat-q4_0-gguf"),
    "qwen3-30b-a3b-instruct-2507": ("Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen/Qwen3-30B-A3B-Instruct-2507-FP8"),
}  # fmt: skip
OTHER_MODELS = (
    "Qwen/Qwen3-8B-Base", "Qwen/Qwen3-4B", "Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-Math-7B",
    "Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B-Thinking-2507", "acme/my-chat-8b", "openai/gpt-oss-120b",
    "google/gemma-3-12b-pt", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.2-1B-Instruct",
)  # fmt: skip


@pytest.mark.parametrize("plain", SAME_MODEL)
def test_uploads_of_one_model_have_one_base_name(plain: str) -> None:
    assert {name: base_name(name) for name in SAME_MODEL[plain]} == dict.fromkeys(SAME_MODEL[plain], plain)


def test_other_models_keep_names_of_their_own() -> None:
    names = {base_name(name) for name in OTHER_MODELS} | set(SAME_MODEL)
    assert len(names) == len(OTHER_MODELS) + len(SAME_MODEL)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen3-8B@0123", "Qwen/Qwen3-8B"),
        ("https://huggingface.co/Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("/c/hub/models--Qwen--Qwen3-8B/snapshots/01", "Qwen/Qwen3-8B"),
        ("/models/Qwen3-8B", ""),
        ("./Qwen3-8B", ""),
        ("../a/Qwen3-8B", ""),
        ("Qwen3 8B", ""),
        ("C:\\models\\Qwen3-8B", ""),
        ("", ""),
    ],
)
def test_a_repository_is_told_from_a_path(name: str, found: str) -> None:
    assert repository(name) == found


OTHER = "Qwen/Qwen3-8B-Base"
NAMES: dict[str, tuple[str, list[str], str]] = {
    "the same repository": ("Qwen/Qwen3-8B", ["Qwen/Qwen3-8B@01", "/c/01"], ""),
    "another": ("Qwen/Qwen3-8B", [f"{OTHER}@01", "/c/01"], OTHER),
    "another in the cache": ("Qwen/Qwen3-8B", ["/c/models--Qwen--Qwen3-8B-Base/snapshots/01"], OTHER),
    "a directory": ("Qwen/Qwen3-8B", ["/models/target"], ""),
    "a directory of another name": ("Qwen/Qwen3-8B", ["/models/Qwen3-8B-Base"], ""),
    "a directory of its name, saved from another": ("Qwen/Qwen3-8B", [OTHER, "/models/Qwen3-8B"], ""),
    "a fine-tune that names its base": ("Qwen/Qwen3-8B", ["acme/chat@01", "Qwen/Qwen3-8B"], ""),
    "a fine-tune that does not": ("Qwen/Qwen3-8B", ["acme/chat@01"], "acme/chat"),
    "a GGUF": ("Qwen/Qwen3-8B", ["Qwen3 8B", f"https://huggingface.co/{OTHER}", "/m/f16.gguf"], ""),
    "a GGUF of another": ("Qwen/Qwen3-8B", ["Base", f"https://huggingface.co/{OTHER}", "/m/f16.gguf"], OTHER),
    "a name inside a GGUF alone": ("Qwen/Qwen3-8B", ["Qwen3 8B Instruct", "/m/f16.gguf"], ""),
    "a path recorded": ("/models/base", ["Qwen/Qwen3-8B@01"], ""),
    "nothing recorded": ("", ["Qwen/Qwen3-8B@01"], ""),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_are_another_model_s(case: str) -> None:
    recorded, names, other = NAMES[case]
    assert other_name(recorded, names) == other


KINDS: dict[str, tuple[str, TrainedFor, bool]] = {
    "its class": ("qwen3", TrainedFor(architectures=("Qwen3ForCausalLM",)), True),
    "one of two": ("qwen3", TrainedFor(architectures=("Qwen3Model", "Qwen3ForCausalLM")), True),
    "another class": ("qwen3", TrainedFor(architectures=("Qwen2ForCausalLM",)), False),
    "a class that nobody reads": ("qwen3", TrainedFor(architectures=("Qwen3_5MoeForConditionalGeneration",)), False),
    "with pictures": ("gemma4", TrainedFor(architectures=("Gemma4ForConditionalGeneration",)), True),
    "its model type": ("gemma4", TrainedFor(model_types=("gemma4", "gemma4_text")), True),
    "its text model's type": ("gemma3", TrainedFor(model_types=("gemma3_text",)), True),
    "another model type": ("gemma4", TrainedFor(model_types=("gemma4_unified", "gemma4_unified_text")), False),
    "Mistral's, which GGUF calls Llama": ("llama", TrainedFor(architectures=("MistralForCausalLM",)), True),
    "Llama's, saved as Mistral's": ("mistral", TrainedFor(architectures=("LlamaForCausalLM",)), True),
    "Mistral's, and others take from Llama's": ("qwen2", TrainedFor(architectures=("MistralForCausalLM",)), False),
    "nothing": ("llama", TrainedFor("Qwen/Qwen3-8B"), True),
}


@pytest.mark.parametrize("case", KINDS)
def test_a_target_of_the_recorded_class(case: str) -> None:
    name, trained_for, fits = KINDS[case]
    family = get_family(name)
    assert trained_for.fits(family.name, (*family.architectures, *family.composites)) == fits


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
