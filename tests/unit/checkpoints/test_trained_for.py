"""The target that a drafter was trained for: which names and classes are of the same model."""

from __future__ import annotations

import pytest

from dspark_export.checkpoints.seams import get_family
from dspark_export.checkpoints.trained_for import TrainedFor, base_name, other_name, repository

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
