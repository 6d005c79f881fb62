"""The seam between readers and what kinds of model there are: a family, by the names that configs give it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.checkpoints.expected import target_tensors
from dspark_export.checkpoints.seams.gguf_layout import GgufLayout
from dspark_export.checkpoints.spec import DecoderShape, LayerSpec, TargetSpec
from dspark_export.checkpoints.tensors import Array, Entry, Shape, TensorSource, Weights

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile

FAMILIES = {
    "llama": "dspark_export.families.llama:LlamaFamily",
    "mistral": "dspark_export.families.mistral:MistralFamily",
    "qwen2": "dspark_export.families.qwen2:Qwen2Family",
    "qwen3": "dspark_export.families.qwen3:Qwen3Family",
    "qwen3_moe": "dspark_export.families.qwen3_moe:Qwen3MoeFamily",
    "gpt_oss": "dspark_export.families.gpt_oss:GptOssFamily",
    "gemma3": "dspark_export.families.gemma3:Gemma3Family",
    "gemma4": "dspark_export.families.gemma4:Gemma4Family",
    "gemma4_unified": "dspark_export.families.gemma4:Gemma4UnifiedFamily",
}


class TargetFamily(ABC):
    """Models of one kind: how their config is read, their tensors, their graph, and the oracle of it.

    Reading needs neither onnx nor torch: a family imports these where they are used.
    """

    name: str
    """`TargetSpec.architecture`."""
    architectures: tuple[str, ...]
    """Names in config.json's `architectures`."""
    composites: tuple[str, ...] = ()
    """Names of models for pictures and text whose text model is of this family, described by `text_config`."""
    config: type[DecoderConfig] = DecoderConfig
    """The keys of its config.json."""
    gguf: GgufLayout | None = None
    """What its GGUF files call things; None where these are not read."""
    defaults: Mapping[str, Any] = {}
    """What a key means that config.json leaves out, as transformers' config class defines it."""

    @abstractmethod
    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        """The decoder that a config describes. Raises `CheckpointError` naming what cannot be followed."""

    def hf_facts(self, config: DecoderConfig, stored: str) -> dict[str, Any]:
        """What else of `TargetSpec` a config says, its embedding being `stored` as safetensors calls it ("BF16")."""
        del config, stored
        return {}

    def hf_entries(
        self, path: Path, spec: TargetSpec, entries: Mapping[str, Entry], source: TensorSource
    ) -> tuple[Mapping[str, Entry], TensorSource]:
        """The tensors of the Hugging Face checkpoint at `path` by canonical name, and where they come from.

        `entries` of `source` have its names without the decoder's prefix.
        """
        del path, spec
        return entries, source

    def hf_transform(self, name: str) -> Callable[[Array], Array] | None:
        """What is done with a tensor of a Hugging Face checkpoint after loading, by canonical name."""
        del name
        return None

    def gguf_layers(self, file: GgufFile, layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
        """The layers of a GGUF file, of which `layers` say what every family's keys say."""
        del file
        return layers

    def gguf_facts(self, file: GgufFile) -> dict[str, Any]:
        """What else of `TargetSpec` a GGUF file says."""
        del file
        return {}

    def gguf_entries(self, spec: TargetSpec, entries: Mapping[str, Entry], source: TensorSource) -> Mapping[str, Entry]:
        """The tensors of a GGUF file by canonical name; `entries` of `source` have the names of `gguf`'s layout."""
        del spec, source
        return entries

    def tensors(self, spec: TargetSpec) -> dict[str, Shape]:
        """Canonical name to shape of every tensor that a target of this family has."""
        return target_tensors(spec)

    @abstractmethod
    def build_graph(self, spec: TargetSpec, weights: Weights, taps: tuple[int, ...], positions: int) -> Any:
        """The verify graph, an `onnx_ir.Model`: see `dspark_export.graphs.build_target_graph` for its contract."""

    @abstractmethod
    def build_oracle(self, spec: TargetSpec, weights: Weights) -> Any:
        """The same model in torch: see `dspark_export.parity.TargetModule` for its contract."""


def register_family(name: str, place: str) -> None:
    """Let readers know a family: `place` is "module:Class"."""
    FAMILIES[name] = place


def get_family(name: str) -> TargetFamily:
    """The family called `name`, which a reader has found."""
    module, _, attribute = FAMILIES[name].partition(":")
    family: TargetFamily = getattr(import_module(module), attribute)()
    return family


def family_of_config(architecture: Any) -> TargetFamily | None:
    """The family of an entry of `architectures`; None where there is none."""
    families = map(get_family, FAMILIES)
    return next((family for family in families if architecture in (*family.architectures, *family.composites)), None)


def family_of_gguf(architecture: str) -> TargetFamily | None:
    """The family of a GGUF file's `general.architecture`; None where there is none."""
    families = [family for family in map(get_family, FAMILIES) if family.gguf]
    return next((family for family in families if family.gguf and family.gguf.architecture == architecture), None)


def gguf_architectures() -> tuple[str, ...]:
    """All names of `general.architecture` that are read."""
    return tuple(family.gguf.architecture for family in map(get_family, FAMILIES) if family.gguf)


def family_architectures() -> tuple[str, ...]:
    """All names of `architectures` that are read."""
    return tuple(name for family in map(get_family, FAMILIES) for name in (*family.architectures, *family.composites))
