"""What a checkpoint is, after its dialect has been read away.

Every reader normalises to these frozen descriptions; everything after the readers knows only them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RopeKind = Literal["default", "linear", "llama3", "yarn"]
Activation = Literal["silu", "gelu_tanh"]
AnchorMode = Literal["predicts", "given"]
BlockMask = Literal["full", "causal", "causal_if_sliding"]
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
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    """YaRN (arXiv 2309.00071): turns within the original positions above and below which a frequency stays and is
    divided by `factor`; whether the pairs between are counted in whole ones."""
    attention_factor: float = 1.0
    """Cosines and sines are multiplied by it, as YaRN does."""
    divisors: tuple[float, ...] = ()
    """Numbers that the frequencies [D/2] are divided by, after the scaling: GGUF's `rope_freqs.weight`."""


@dataclass(frozen=True, kw_only=True)
class ExpertSpec:
    """A mixture of `count` MLPs of which each token takes the `per_token` that its router scores best.

    Their shares are the softmax over all scores, `renormalised` to a sum of one over those taken (which is the softmax
    over them). `biased`: router and experts have biases. `dspark_plugins.expert_mlp` says what the numbers do.

    Gemma 4: `parallel_width`: the experts are that wide and stand beside the layer's MLP, both with norms of their own;
    0: they are the layer's MLP. The router of parallel ones sees the layer's states normed without a gain and times
    scale * H ** -0.5, and the shares of an expert are multiplied by a number that it has.
    """

    count: int
    per_token: int
    renormalised: bool
    biased: bool = False
    alpha: float = 1.0
    limit: float = 0.0
    up_offset: float = 0.0
    parallel_width: int = 0


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """One pre-norm decoder layer: grouped-query attention and a gated MLP, down(activation(gate(x)) * up(x)).

    `window`: how many positions a token sees, itself included, or of its context a drafter's block; 0 is all.
    `scale` multiplies query times key, None is head_dim ** -0.5. `softcap` c bounds what comes of that,
    c * tanh(x / c); 0 does not. `qkv_bias`, `output_bias`: whether these projections have one. `sandwich`: attention
    and MLP are normed again before they are added (Gemma).
    `sinks`: each query head has a score of its own that takes part in the softmax and brings no value (gpt-oss).
    `experts`: the MLP is a mixture of them, each `intermediate_size` wide, or they stand beside it (Gemma 4).

    Gemma 4: `value_norm`: value heads are normed too, without a gain. `shared_values`: values are the key projection.
    `keys_from`: keys and values are those of that earlier layer. `per_layer_input`: how wide the input is that each
    layer gets beside the states; 0: none. `layer_scalar`: what a layer gives is multiplied by a number of its own.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    rope: RopeSpec
    qk_norm: bool = False
    window: int = 0
    scale: float | None = None
    softcap: float = 0.0
    qkv_bias: bool = False
    output_bias: bool = False
    activation: Activation = "silu"
    sandwich: bool = False
    sinks: bool = False
    experts: ExpertSpec | None = None
    value_norm: bool = False
    shared_values: bool = False
    keys_from: int | None = None
    per_layer_input: int = 0
    layer_scalar: bool = False

    @property
    def query_size(self) -> int:
        """Width of the concatenated query heads."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the concatenated key (or value) heads."""
        return self.num_kv_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class DecoderShape:
    """A stack of decoder layers, which may differ from each other, and the norm behind it."""

    hidden_size: int
    rms_norm_eps: float
    layers: tuple[LayerSpec, ...]

    @property
    def num_layers(self) -> int:
        """How many there are."""
        return len(self.layers)

    @property
    def usual_layer(self) -> LayerSpec | None:
        """What all layers are like; None where they differ."""
        return self.layers[0] if len(set(self.layers)) == 1 else None


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
    embedding_scale: float = 1.0
    """What rows of the embedding are multiplied by."""
    per_layer_scale: float = 1.0
    """What rows of the table of per-layer inputs are multiplied by."""
    logit_softcap: float = 0.0
    """c of c * tanh(logit / c); 0 is none."""


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


@dataclass(frozen=True, kw_only=True)
class ChainSpec:
    """A drafter that drafts one token after the other, each from the state that the one before left.

    Its first step reads (features of position i, token i+1) for every accepted token, at rotary position i, and its
    cache keeps their keys and values; each further step reads (its own state, the token just drafted).

    `kind` "eagle3": u = fc(taps), later the state; attention reads [input_layernorm(embedding); hidden_norm(u)]; what
    is added to is u, or hidden_norm(u) if `residual_normed`. "mtp": x = fc([norm(embedding); norm(state)]), the other
    way round unless `embedding_first`, then an ordinary layer; its tap is the target's state behind its final norm,
    num_target_layers. There may be `stages` of these, one for each step and the last for all that follow: stage S > 0
    reads for every accepted token (the state that stage S-1 has left at position i, token i+1+S), of which the last
    is the one just drafted, at rotary position i and with a cache of its own.

    `tap_norm`: what is normed before fc: nothing, all taps as one, or each. Keys: `norm_before_fc`, `fc_norm`.
    `state_normed`: whether the state is what the final norm gives, or what it reads. Key: `norm_output`.
    """

    kind: Literal["eagle3", "mtp"]
    residual_normed: bool = False
    state_normed: bool = False
    tap_norm: Literal["none", "whole", "each"] = "none"
    embedding_first: bool = True
    stages: int = 1


@dataclass(frozen=True, kw_only=True)
class DrafterSpec:
    """A drafter, tap convention normalised: tap k is the output of target layer k, -1 the embedding.

    `block_size`: positions of the block that the backbone runs over, the anchor's and the masks behind it; of a chain
    how many tokens it drafts.
    `own_embedding`, `own_head`: whether the checkpoint has tables of its own; the target's serve otherwise.
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
    anchor: AnchorMode = "predicts"
    """Position j of the block predicts token p+1+j, the anchor's position 0 included; or the anchor is only "given":
    its position predicts nothing, and position j > 0 predicts token p+j."""
    block_mask: BlockMask = "full"
    """Whom a position of the block sees, beside the context: the whole block; itself and what is before it; or this
    in layers with a window only."""
    draft_vocabulary: tuple[int, ...] = ()
    """The target's ids that can be drafted, rising; empty: all. Head and W2 have a line for each, W1 and the embedding
    are whole. Keys: `draft_vocab_size`, `d2t`."""
    embedding_scale: float = 1.0
    """What rows of the embedding are multiplied by, the anchor's and the masks' alike."""
    logit_softcap: float = 0.0
    """c of c * tanh(logit / c), which is done to the head's logits before the Markov head adds to them; 0 is none."""
    chain: ChainSpec | None = None
    """How a drafter that drafts one token after the other does; None: it drafts its block in one pass."""

    def causal(self, layer: LayerSpec) -> bool:
        """Whether a position of the block sees nothing of it behind itself."""
        return self.block_mask == "causal" or (self.block_mask == "causal_if_sliding" and layer.window > 0)

    @property
    def draft_length(self) -> int:
        """How many tokens a block drafts, gamma: one for each position that predicts."""
        return self.block_size - (self.anchor == "given")

    @property
    def draft_vocab_size(self) -> int:
        """How many tokens can be drafted."""
        return len(self.draft_vocabulary) or self.vocab_size

    @property
    def feature_size(self) -> int:
        """Width of the tapped target features, taps x hidden size."""
        return len(self.target_layer_ids) * self.shape.hidden_size
