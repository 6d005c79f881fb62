"""What a checkpoint is, after its dialect has been read away.

Every reader normalises to these frozen descriptions; everything after the readers knows only them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RopeKind = Literal["default", "linear", "llama3"]
MarkovKind = Literal["none", "vanilla", "gated", "rnn"]


@dataclass(frozen=True)
class RopeSpec:
    """Rotary position embedding, "rotate half" layout. Keys: config `rope_theta`, `rope_scaling`."""

    theta: float
    kind: RopeKind = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192
    divisors: tuple[float, ...] = ()
    """Numbers that the frequencies [D/2] are divided by, after the scaling: GGUF's `rope_freqs.weight`."""


@dataclass(frozen=True)
class DecoderShape:
    """A stack of pre-norm decoder layers with grouped-query attention and a SwiGLU MLP."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope: RopeSpec
    qk_norm: bool

    @property
    def query_size(self) -> int:
        """Width of the concatenated query heads."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the concatenated key (or value) heads."""
        return self.num_kv_heads * self.head_dim


@dataclass(frozen=True)
class TargetSpec:
    """The language model whose output must not change."""

    architecture: str
    shape: DecoderShape
    vocab_size: int
    max_positions: int
    tied_embeddings: bool
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None


@dataclass(frozen=True)
class MarkovSpec:
    """Markov head (design §2). Keys: `markov_rank`, `markov_head_type`; rank 0 means none."""

    kind: MarkovKind
    rank: int


@dataclass(frozen=True)
class ConfidenceSpec:
    """Confidence head. Keys: `enable_confidence_head`, `confidence_head_with_markov`."""

    enabled: bool
    with_markov: bool


@dataclass(frozen=True)
class DrafterSpec:
    """A DSpark drafter, tap convention normalised: tap k is the output of target layer k, -1 the embedding.

    The anchor is the first prediction position: position j of the block predicts token p+1+j.
    """

    shape: DecoderShape
    vocab_size: int
    block_size: int
    mask_token_id: int
    target_layer_ids: tuple[int, ...]
    num_target_layers: int
    markov: MarkovSpec
    confidence: ConfidenceSpec
    own_embedding: bool
    own_head: bool
    method: str = "dspark"
    """How it drafts: a name of `checkpoints.seams.METHODS`."""

    @property
    def feature_size(self) -> int:
        """Width of the tapped target features, taps x hidden size."""
        return len(self.target_layer_ids) * self.shape.hidden_size
