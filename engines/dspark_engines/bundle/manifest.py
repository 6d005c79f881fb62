"""manifest.json: what a bundle holds and what it was made from (schema version 1)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
)

from dspark_engines.bundle.caches import CacheSpec, cache_list

SCHEMA_VERSION: Literal[1] = 1

Role = Literal["verify", "draft", "accept"]
"""The target with its caches; the drafter with its caches; what accepts drafts, where that is an engine."""
GraphName = Literal["target", "drafter", "accept"]
OLDER_GRAPHS: dict[str, GraphName] = {"verification": "accept"}
"""Names in bundles of older versions, and what they are called today."""
Precision = Literal["fp32", "int8"]


def _inside(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text:
        raise ValueError("must name a file inside the folder")
    return text


InsidePath = Annotated[str, AfterValidator(_inside)]
"""Relative, with forward slashes, and never up: a manifest may come from anywhere."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Record):
    """One file, by path relative to what owns it (the bundle, or a checkpoint)."""

    path: InsidePath
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: NonNegativeInt


class StopToken(_Record):
    """A token that ends a sequence, and who says so: a file of the checkpoint, or a key of it."""

    id: NonNegativeInt
    token: str
    source: str


class TargetInfo(_Record):
    """The target's identity and what the runtime must know of it."""

    name: str
    files: list[FileRecord]
    architecture: str
    vocab_size: PositiveInt
    hidden_size: PositiveInt
    num_layers: PositiveInt
    eos_token_ids: list[int]
    bos_token_id: int | None
    add_bos: bool
    """Whether the begin token goes in front of every prompt, beyond what tokenizer.json itself adds."""
    add_eos: bool = False
    """Whether the first of `eos_token_ids` goes behind every prompt, likewise."""
    split_special_tokens: bool = False
    """Whether control tokens that are spelled in a prompt are read as text."""
    clean_up_spaces: bool = False
    """Whether decoding drops spaces in front of punctuation."""
    stop_tokens: list[StopToken] = []
    """`eos_token_ids` with their names and origins; empty in bundles of older versions."""
    source: str | None = None
    """Where it was read from, an absolute path on the machine that built the bundle."""
    quantization: str | None = None
    """How the checkpoint stored its weights where not as plain floating point."""
    hub: str | None = None
    """Where it came from on the Hugging Face Hub, REPOSITORY@COMMIT."""


class DraftVocabulary(_Record):
    """A drafter's part of the target's vocabulary: `path` is an .npy of its ids [size] int64, rising."""

    path: InsidePath
    size: PositiveInt
    own: bool = False
    """Whether the drafter came with it, rather than being cut down when it was exported."""
    coverage: float | None = None
    """Share of the target's own tokens that are in it, as counted when it was chosen."""


class DrafterInfo(_Record):
    """The drafter's identity and what the runtime must know of it; where there is none, `method` "none", sizes of 0."""

    name: str
    label: str = ""
    """What it is called among the drafters of its bundle; empty: as its method."""
    files: list[FileRecord]
    block_size: NonNegativeInt
    """How many tokens a round drafts."""
    anchor: Literal["predicts", "given"] = "predicts"
    """Whether the anchor's position drafts the first of them, or nothing."""
    target_layer_ids: list[int]
    feature_size: NonNegativeInt
    """Width of the features that the target's engine gives, of which it takes its own."""
    num_layers: NonNegativeInt
    method: str = "dspark"
    """How it drafts."""
    method_facts: dict[str, str | int | float | bool | list[int]] = {}
    """What the method says of itself; empty in bundles of older versions."""
    markov_kind: str
    markov_rank: NonNegativeInt
    confidence: bool
    scores: list[str] = []
    """What its engine says of each position in place of a confidence; empty where it has a confidence head."""
    draft_vocabulary: DraftVocabulary | None = None
    """None: every token of the target can be drafted."""
    source: str | None = None
    """Where it was read from, an absolute path on the machine that built the bundle."""
    hub: str | None = None
    """Where it came from on the Hugging Face Hub, REPOSITORY@COMMIT."""
    trained_for: str | None = None
    """The target that its checkpoint says it was trained for, a repository or a path; None where it does not say."""

    @property
    def called(self) -> str:
        """Its name among the drafters of its bundle."""
        return self.label or self.method

    @property
    def drafts(self) -> bool:
        """Whether there is a drafter at all."""
        return self.block_size > 0

    @property
    def block_width(self) -> int:
        """Positions that the backbone runs over a round: what caches have room for behind a context."""
        return self.block_size + (self.anchor == "given")


NO_DRAFTER = DrafterInfo(
    name="",
    files=[],
    block_size=0,
    target_layer_ids=[],
    feature_size=0,
    num_layers=0,
    method="none",
    markov_kind="none",
    markov_rank=0,
    confidence=False,
)
"""Of a bundle that decodes plainly."""


class RecipeInfo(_Record):
    """The recipe that a bundle was built by; options on the command line may have overridden parts of it."""

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    source: str
    """Where it was read from, an absolute path on the machine that built the bundle."""


class TensorInfo(_Record):
    """One input or output of a graph; strings are symbolic dimensions."""

    name: str
    dtype: str
    shape: list[int | str]


class GraphInfo(_Record):
    """One exported graph and its contract. `inputs` and `outputs` leave out the caches."""

    path: InsidePath
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    caches: Annotated[list[CacheSpec], BeforeValidator(cache_list)]

    def takes(self, name: str) -> bool:
        """Whether it has an input of that name."""
        return any(tensor.name == name for tensor in self.inputs)

    def gives(self, name: str) -> bool:
        """Whether it has an output of that name."""
        return any(tensor.name == name for tensor in self.outputs)


class Limits(_Record):
    """What the engines were built for; `context_length` counts prompt and output together."""

    context_length: PositiveInt
    prefill_chunk: PositiveInt
    slots: PositiveInt


class EngineInfo(_Record):
    """One compiled engine. `weights` is the folder its external weights are read from, "" when it holds them.

    The optional fields are set for engines that were built for one kind of GPU.
    """

    role: Role
    slots: PositiveInt
    path: InsidePath
    weights: InsidePath
    built_from: FileRecord
    precision: Literal["fp32", "fp16", "bf16"] | None = None
    compute_capability: str | None = None
    token_buckets: list[PositiveInt] = []
    plugins: list[str] = []
    """Custom ops that it runs as plugins with kernels of ours."""
    greedy_drafts: bool = False
    """Whether it drafts, or accepts drafts, at temperature 0 only."""


class BackendInfo(_Record):
    """The engines of one backend, and the library version that they were compiled with."""

    name: str
    version: str
    engines: list[EngineInfo]


class DrafterSection(_Record):
    """A further drafter over the same target: its graphs, and its engines by backend."""

    drafter: DrafterInfo
    graphs: dict[GraphName, GraphInfo]
    engines: dict[str, list[EngineInfo]]


class Manifest(_Record):
    """The whole of manifest.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    created: str
    tools: dict[str, str]
    precision: Precision
    limits: Limits
    target: TargetInfo
    drafter: DrafterInfo
    graphs: dict[GraphName, GraphInfo]
    backends: list[BackendInfo]
    further_drafters: list[DrafterSection] = []
    files: list[FileRecord]
    speculation: bool = True
    """Whether runtimes speculate unless they are told; may be changed in place."""
    recipe: RecipeInfo | None = None
    """None where options alone said what to build, and in bundles of older versions."""

    @field_validator("graphs", mode="before")
    @classmethod
    def _todays_names(cls, graphs: Any) -> Any:
        if not isinstance(graphs, dict):
            return graphs
        return {OLDER_GRAPHS.get(name, name): graph for name, graph in graphs.items()}
