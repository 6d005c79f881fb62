"""Which target a drafter was trained for, as its checkpoint records it, and whether that can be the one at hand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dspark_export.checkpoints.hub import NAME

ADDRESS = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<repository>[^/]+/[^/?#]+)")
CACHED = re.compile(r"(?:^|/)models--(?P<owner>.+?)--(?P<name>[^/]+)(?:/|$)")
"""A repository's folder in the Hub's cache."""
FILE = re.compile(r"(-\d{5}-of-\d{5})?\.gguf$")
STORAGE = re.compile(
    r"-(?:(?:fp|bf|nvfp|mxfp|nf)\d+(?:-(?:moe|dynamic|block|static))?|u?int\d+|w\d+a\d+(?:kv\d+|-fp8)?|\d+-?bits?|g?\d+g"
    r"|(?:iq|tq|q)\d(?:-[a-z0-9]{1,3}){0,2}|awq|gptq|gguf|ggml|bnb|nf4|hqq|exl[23]|mlx|qat|ptq|quant|quantized"
    r"|quantised|autoround|compressed-tensors|dynamic|unsloth|ud|i1|imatrix|modelopt|torchao|hf|safetensors)$"
)
"""What re-uploads put behind a model's name to say how its weights are stored, separators written as hyphens."""
MAKERS = ("meta-",)
"""What some uploads of the same model put in front of its name."""
ALIKE: dict[str, tuple[str, ...]] = {
    "llama": ("MistralForCausalLM", "mistral", "Mistral3ForConditionalGeneration", "mistral3"),
    "mistral": ("LlamaForCausalLM", "llama", "Mistral3ForConditionalGeneration", "mistral3"),
}
"""By a family, names of others whose models are saved as models of it: GGUF calls Mistral's `llama`."""


@dataclass(frozen=True)
class TrainedFor:
    """A target as a drafter's checkpoint records it; empty what it does not say.

    `name`: a repository or a path. `architectures`, `model_types`: what config.json calls its class, any of them.
    """

    name: str = ""
    architectures: tuple[str, ...] = ()
    model_types: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(str(self))

    def __str__(self) -> str:
        kinds = ", ".join(self.architectures or self.model_types)
        return f"{self.name} ({kinds})" if self.name and kinds else self.name or kinds

    def fits(self, family: str, architectures: Iterable[str]) -> bool:
        """Whether a target of this family, which configs call so, can be of the recorded class; without one it can."""
        kinds = {*self.architectures, *(kind.removesuffix("_text") for kind in self.model_types)}
        return not kinds or bool(kinds & {family, *architectures, *ALIKE.get(family, ())})


NOT_RECORDED = TrainedFor()


def repository(name: str) -> str:
    """OWNER/NAME on the Hub: of a name, an address there, or a path inside its cache; "" for any other text."""
    cached, address = CACHED.search(name), ADDRESS.match(name)
    if cached is not None:
        return f"{cached['owner']}/{cached['name']}"
    if address is not None:
        return address["repository"]
    match = NAME.fullmatch(name)
    return "" if match is None else match["repository"]


def base_name(name: str) -> str:
    """What a model is called whoever uploads it and however its weights are stored: `qwen3-8b` of `Qwen/Qwen3-8B-FP8`.

    `name`: a repository, a path, or the name that a file has for it.
    """
    last = (repository(name) or name).rstrip("/").rpartition("/")[2].lower()
    plain = re.sub(r"[-_.\s]+", "-", FILE.sub("", last))
    for maker in MAKERS:
        plain = plain.removeprefix(maker)
    while (shorter := STORAGE.sub("", plain)) != plain:
        plain = shorter
    return plain


def other_name(recorded: str, names: Iterable[str]) -> str:
    """The repository that a target with these `names` comes from, if `recorded` is another model's; "" where it is not.

    Paths and names inside files may be anything: they can show that it is the same model, never that it is another.
    """
    found = list(names)
    known = [name for name in map(repository, found) if name]
    if not repository(recorded) or not known or base_name(recorded) in map(base_name, found):
        return ""
    return known[0]
