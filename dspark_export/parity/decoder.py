"""Pieces that the target and the drafter share: plain float32 torch, written to be read.

Module and parameter names are those of the canonical tensors (`layers.0.self_attn.q_proj.weight`, ...), so
that loading is strict: a missing tensor, one too many or a wrong shape is an error that names it.

Letters in shapes: B rows, S new tokens, T attended tokens, H hidden, N heads, K key/value heads, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from dspark_export.parity.experts import ExpertMlp, Experts, ScaledRouter
from dspark_export.parity.norm import RmsNorm

if TYPE_CHECKING:
    from dspark_export.checkpoints.spec import Activation, DecoderShape, LayerSpec, RopeSpec

Array = npt.NDArray[np.float32]
Weights = Mapping[str, Array]
RotaryTables = tuple[Tensor, Tensor]


def to_tensor(array: Array) -> Tensor:
    """A float32 copy, so that read-only (memory-mapped) arrays are welcome."""
    return torch.from_numpy(np.array(array, dtype=np.float32))


def load_weights(module: nn.Module, weights: Weights) -> None:
    """Fill a module that was built on the meta device.

    Raises RuntimeError, naming the tensors, when one is missing, unknown or of the wrong shape.
    """
    tensors = {name: to_tensor(array) for name, array in weights.items()}
    module.load_state_dict(tensors, strict=True, assign=True)
    module.requires_grad_(False).eval()


def inverse_frequencies(head_dim: int, rope: RopeSpec) -> Tensor:
    """Radians per position of each pair of channels, [D/2]."""
    scaled = _scaled_frequencies(head_dim, rope)
    return scaled / torch.tensor(rope.divisors) if rope.divisors else scaled


def _scaled_frequencies(head_dim: int, rope: RopeSpec) -> Tensor:
    plain = 1.0 / rope.theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    if rope.kind == "default":
        return plain
    if rope.kind == "linear":
        return plain / rope.factor
    if rope.kind == "llama3":
        turns = rope.original_max_positions * plain / (2 * math.pi)
        keep = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
        keep = keep.clamp(0.0, 1.0)  # 1: turns often enough to stay as it is; 0: slowed by the whole factor
        return keep * plain + (1.0 - keep) * plain / rope.factor
    if rope.kind == "yarn":
        return _yarn_frequencies(head_dim, rope, plain)
    raise ValueError(f"unknown rotary kind {rope.kind!r}; known: default, linear, llama3, yarn")


def _yarn_frequencies(head_dim: int, rope: RopeSpec, plain: Tensor) -> Tensor:
    """YaRN, NTK-by-parts: `plain` for fast pairs, `plain` over the factor for slow ones, a ramp of pairs between."""
    bounds = [
        head_dim * math.log(rope.original_max_positions / (2 * math.pi * turns)) / (2 * math.log(rope.theta))
        for turns in (rope.beta_fast, rope.beta_slow)
    ]
    low, high = (math.floor(bounds[0]), math.ceil(bounds[1])) if rope.truncate else bounds
    low, high = max(low, 0), min(high, head_dim - 1)
    slowed = ((torch.arange(head_dim // 2) - low) / max(high - low, 1e-3)).clamp(0.0, 1.0)
    return plain * (1 - slowed + slowed / rope.factor)


def rotary_tables(positions: Tensor, head_dim: int, rope: RopeSpec) -> RotaryTables:
    """Cosines and sines, [S, D] each, of integer positions [S]; both halves of D hold the same angles."""
    angles = positions.float()[:, None] * inverse_frequencies(head_dim, rope)
    angles = torch.cat([angles, angles], dim=-1)
    return rope.attention_factor * angles.cos(), rope.attention_factor * angles.sin()


def rotate(x: Tensor, tables: RotaryTables) -> Tensor:
    """Rotary embedding of x [B, heads, S, D], "rotate half" layout: channels i and i + D/2 are a pair."""
    cosines, sines = tables
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-second, first], dim=-1) * sines


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor, layer: LayerSpec, sinks: Tensor | None = None
) -> Tensor:
    """Grouped-query attention, with the layer's scale and softcap, and the heads' `sinks` [N] if they have any.

    queries [B, N, S, D]; keys and values [B, K, T, D], each head serving N/K consecutive query heads; allowed
    bool [S, T]. Returns [B, S, N*D].
    """
    group = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(group, dim=1), values.repeat_interleave(group, dim=1)
    scores = queries @ keys.transpose(-1, -2) * (layer.head_dim**-0.5 if layer.scale is None else layer.scale)
    scores = softcapped(scores, layer.softcap).masked_fill(~allowed, -math.inf)
    if sinks is not None:
        sink = sinks[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sink], dim=-1)
    weights = scores.softmax(dim=-1)[..., : keys.shape[2]]
    return (weights @ values).transpose(1, 2).flatten(2)


def softcapped(logits: Tensor, cap: float) -> Tensor:
    """Logits of any shape bounded by `cap`, c * tanh(x / c); 0 leaves them alone."""
    return cap * torch.tanh(logits / cap) if cap else logits


class Attention(nn.Module):
    """Projections of one attention layer; who attends to what is the caller's business."""

    def __init__(self, shape: DecoderShape, layer: LayerSpec) -> None:
        super().__init__()
        hidden, self.layer, epsilon = shape.hidden_size, layer, shape.rms_norm_eps
        self.q_proj = nn.Linear(hidden, layer.num_heads * layer.head_dim, bias=layer.qkv_bias)
        width = layer.num_kv_heads * layer.head_dim
        if layer.keys_from is None:
            self.k_proj = nn.Linear(hidden, width, bias=layer.qkv_bias)
            self.k_norm = RmsNorm(layer.head_dim, epsilon) if layer.qk_norm else nn.Identity()
        if layer.keys_from is None and not layer.shared_values:
            self.v_proj = nn.Linear(hidden, width, bias=layer.qkv_bias)
        self.epsilon = epsilon
        self.o_proj = nn.Linear(layer.num_heads * layer.head_dim, hidden, bias=layer.output_bias)
        self.q_norm = RmsNorm(layer.head_dim, epsilon) if layer.qk_norm else nn.Identity()
        self.sinks = nn.Parameter(torch.zeros(layer.num_heads)) if layer.sinks else None

    def tables(self, positions: Tensor) -> RotaryTables:
        """Cosines and sines of this layer's rotation at positions [S]."""
        return rotary_tables(positions, self.layer.head_dim, self.layer.rope)

    def heads(self, projected: Tensor) -> Tensor:
        """[B, S, heads*D] to [B, S, heads, D]."""
        return projected.view(*projected.shape[:-1], -1, self.layer.head_dim)

    def queries(self, x: Tensor, tables: RotaryTables) -> Tensor:
        """[B, S, H] to rotated queries [B, N, S, D]."""
        return rotate(self.q_norm(self.heads(self.q_proj(x))).transpose(1, 2), tables)

    def keys_values(self, x: Tensor, tables: RotaryTables) -> tuple[Tensor, Tensor]:
        """[B, T, H] to rotated keys and values, [B, K, T, D] each."""
        plain = self.heads(self.k_proj(x))
        values = plain if self.layer.shared_values else self.heads(self.v_proj(x))
        if self.layer.value_norm:
            values = values * torch.rsqrt(values.square().mean(-1, keepdim=True) + self.epsilon)
        return rotate(self.k_norm(plain).transpose(1, 2), tables), values.transpose(1, 2)


class GatedMlp(nn.Module):
    """down(activation(gate(x)) * up(x))."""

    def __init__(self, hidden_size: int, inner_size: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.gate_proj = nn.Linear(hidden_size, inner_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, inner_size, bias=False)
        self.down_proj = nn.Linear(inner_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x)
        bent = functional.silu(gate) if self.activation == "silu" else functional.gelu(gate, approximate="tanh")
        y: Tensor = self.down_proj(bent * self.up_proj(x))
        return y


class DecoderLayer(nn.Module):
    """The parts of a pre-norm decoder layer; target and drafter wire the attention differently."""

    def __init__(self, shape: DecoderShape, layer: LayerSpec) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape, layer)
        self.post_attention_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp: nn.Module = GatedMlp(shape.hidden_size, layer.intermediate_size, layer.activation)
        self.parallel = layer.experts is not None and layer.experts.parallel_width > 0
        if layer.experts is not None and not self.parallel:
            self.mlp = ExpertMlp(shape.hidden_size, layer.intermediate_size, layer.experts, layer.activation)
        if layer.sandwich:
            self.pre_feedforward_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
            self.post_feedforward_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        if layer.experts is not None and self.parallel:
            self.router = ScaledRouter(shape.hidden_size, layer.experts, shape.rms_norm_eps)
            self.experts = Experts(shape.hidden_size, layer.experts.parallel_width, layer.experts, layer.activation)
            self.post_feedforward_layernorm_1 = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
            self.pre_feedforward_layernorm_2 = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
            self.post_feedforward_layernorm_2 = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        if layer.per_layer_input:
            self.per_layer_input_gate = nn.Linear(shape.hidden_size, layer.per_layer_input, bias=False)
            self.per_layer_projection = nn.Linear(layer.per_layer_input, shape.hidden_size, bias=False)
            self.post_per_layer_input_norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        if layer.layer_scalar:
            self.layer_scalar = nn.Parameter(torch.ones(1))

    def finish(self, x: Tensor, attended: Tensor, layer_input: Tensor | None = None) -> Tensor:
        """The rest of the layer: its input x [B, S, H] and the attended values [B, S, N*D] to [B, S, H].

        `layer_input` [B, S, d]: what the layer gets beside the states, if it gets something.
        """
        attended = self.self_attn.o_proj(attended)
        if not self.self_attn.layer.sandwich:
            x = x + attended
            y: Tensor = x + self.mlp(self.post_attention_layernorm(x))
            return y
        x = x + self.post_attention_layernorm(attended)
        z: Tensor = x + self.post_feedforward_layernorm(self._inner(x))
        if layer_input is not None:
            gate = functional.gelu(self.per_layer_input_gate(z), approximate="tanh")
            z = z + self.post_per_layer_input_norm(self.per_layer_projection(gate * layer_input))
        return z * self.layer_scalar if self.self_attn.layer.layer_scalar else z

    def _inner(self, x: Tensor) -> Tensor:
        """What the MLP makes of x [B, S, H], and the experts beside it where there are some."""
        inner: Tensor = self.mlp(self.pre_feedforward_layernorm(x))
        if not self.parallel:
            return inner
        tokens = x.flatten(0, 1)
        chosen = self.experts(self.pre_feedforward_layernorm_2(tokens), *self.router(tokens)).view(x.shape)
        both: Tensor = self.post_feedforward_layernorm_1(inner) + self.post_feedforward_layernorm_2(chosen)
        return both
