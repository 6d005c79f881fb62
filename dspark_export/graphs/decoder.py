"""The decoder layer that target and drafter share; they differ in how attention gets its keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dspark_export.checkpoints import DecoderShape, LayerSpec, RopeSpec
from dspark_export.graphs.experts import expert_mlp, parallel_experts
from dspark_export.graphs.rope import rope_tables
from dspark_export.graphs.writer import GraphWriter
from dspark_plugins.attention import OUTPUTS, AttentionSpec
from dspark_plugins.attention.function import attention_function

Project = Callable[[int, ir.Value], tuple[ir.Value, ir.Value, ir.Value]]


@dataclass
class CachedDecoder:
    """Builds the layers of one graph around `op(query, key, value, …, caches)`.

    `lengths` and `used` are [R] int64; caches become graph inputs `key_cache.I`, `value_cache.I` and
    outputs `…_out`, [R, Hkv, C, D]. `causal` says of a block's layers whether positions see only what is before them.
    """

    writer: GraphWriter
    shape: DecoderShape
    lengths: ir.Value
    used: ir.Value
    positions: int
    block_size: int = 0
    causal: Callable[[LayerSpec], bool] = lambda _: False
    rows: str = "N"
    """What the extent of packed tokens is called."""
    step: str = ""
    """What names of values begin with, where a layer is run several times."""

    def __post_init__(self) -> None:
        self._tables: dict[tuple[RopeSpec, int], tuple[ir.Value, ir.Value]] = {}
        self.per_layer_inputs: list[ir.Value] = []
        """What every layer gets beside the states, [n, d] each; the target's graph fills it."""

    def layer(self, i: int, x: ir.Value, project: Project) -> ir.Value:
        """One layer, x [n, H] -> [n, H]; `project` makes query, key and value of the normed states."""
        return self.finish(i, x, self.attend(i, *project(i, self.norm(i, "input", x))))

    def finish(self, i: int, x: ir.Value, attended: ir.Value) -> ir.Value:
        """The rest of layer i: what it adds to x [n, H], from the attended values [n, Hq*D]."""
        op, layer = self.writer.op, self.shape.layers[i]
        attended = self.linear(i, attended, "o", bias=layer.output_bias)
        if not layer.sandwich:
            x = op.Add(x, attended)
            return op.Add(x, self._mlp(i, self.norm(i, "post_attention", x)))
        x = op.Add(x, self.norm(i, "post_attention", attended))
        inner = self._add_experts(i, x, self._mlp(i, self.norm(i, "pre_feedforward", x)))
        x = op.Add(x, self.norm(i, "post_feedforward", inner))
        x = self._add_layer_input(i, x) if layer.per_layer_input else x
        return op.Mul(x, self.writer.weight(f"layers.{i}.layer_scalar")) if layer.layer_scalar else x

    def _add_experts(self, i: int, x: ir.Value, inner: ir.Value) -> ir.Value:
        """`inner`, what the MLP gives, with what experts beside it make of the layer's states x."""
        experts = self.shape.layers[i].experts
        if experts is None or not experts.parallel_width:
            return inner
        w, name = self.writer, f"layers.{i}.post_feedforward_layernorm_1.weight"
        beside = parallel_experts(w, self.shape, i, x)
        return w.op.Add(w.rms_norm(inner, name, self.shape.rms_norm_eps), beside)

    def _add_layer_input(self, i: int, x: ir.Value) -> ir.Value:
        w, op, prefix = self.writer, self.writer.op, f"layers.{i}"
        gate = op.Gelu(w.linear(x, f"{prefix}.per_layer_input_gate.weight"), approximate="tanh")
        inner = w.linear(op.Mul(gate, self.per_layer_inputs[i]), f"{prefix}.per_layer_projection.weight")
        name = f"{prefix}.post_per_layer_input_norm.weight"
        return op.Add(x, w.rms_norm(inner, name, self.shape.rms_norm_eps))

    def linear(self, i: int, x: ir.Value, which: str, *, bias: bool) -> ir.Value:
        """Projections of layer i's attention side by side: `which` "q", "kv", "qkv" or "o"."""
        prefix = f"layers.{i}.self_attn"
        names, fused = [f"{prefix}.{one}_proj.weight" for one in which], f"{prefix}.{which}_proj.weight"
        return self.writer.linear(x, *names, fused=fused, bias=bias)

    def norm(self, i: int, which: str, x: ir.Value) -> ir.Value:
        """One of layer i's norms, by the beginning of its name."""
        return self.writer.rms_norm(x, f"layers.{i}.{which}_layernorm.weight", self.shape.rms_norm_eps)

    def heads_norm(self, i: int, which: str, x: ir.Value) -> ir.Value:
        """Qwen3's norm of every query or key head; the identity where the model has none."""
        layer = self.shape.layers[i]
        if not layer.qk_norm:
            return x
        op, name = self.writer.op, f"layers.{i}.self_attn.{which}_norm.weight"
        heads = op.Reshape(x, [0, -1, layer.head_dim])
        width = layer.query_size if which == "q" else layer.kv_size
        return op.Reshape(self.writer.rms_norm(heads, name, self.shape.rms_norm_eps), [-1, width])

    def values_norm(self, i: int, x: ir.Value) -> ir.Value:
        """Gemma 4's norm of every value head, which has no gain; the identity where the model has none."""
        layer = self.shape.layers[i]
        if not layer.value_norm:
            return x
        w, width = self.writer, layer.head_dim
        ones = w.constant(f"ones.{width}", np.ones(width, np.float32))
        heads = w.op.Reshape(x, [0, -1, width])
        normed = w.op.RMSNormalization(heads, ones, axis=-1, epsilon=self.shape.rms_norm_eps)
        return w.op.Reshape(normed, [-1, layer.kv_size])

    def split(self, x: ir.Value, *widths: int) -> tuple[ir.Value, ...]:
        """Cut the last axis into parts of the given widths."""
        return tuple(self.writer.op.Split(x, list(widths), axis=-1, _outputs=len(widths)))

    def attend(self, i: int, query: ir.Value, key: ir.Value, value: ir.Value) -> ir.Value:
        """What layer i's heads gather, [n, Hq*D]; its caches take in key and value."""
        w, layer, spec = self.writer, self.shape.layers[i], self._attention(i)
        output, *updated = w.op.call(
            attention_function(spec, self._overload(i)),
            query,
            key,
            value,
            self.lengths,
            self.used,
            *self._rope(layer),
            *self.caches(i),
            *([w.weight(f"layers.{i}.self_attn.sinks")] if layer.sinks else []),
            _outputs=[f"{self.step}layers.{i}.{name}" for name in OUTPUTS],
            **spec.attributes(),
        )
        if not self.block_size:  # as many rows as the query; behind a function call nothing infers it
            output.shape, output.dtype = ir.Shape([self.rows, layer.query_size]), ir.DataType.FLOAT
        self.keep(i, updated)
        return output

    def caches(self, i: int) -> list[ir.Value]:
        """Keys and values of layer i as attention finds them."""
        row = self.cache_row(i)
        return [self.writer.cache(name, name.replace("_cache", "_cache_out"), row) for name in cache_names(i)]

    def keep(self, i: int, updated: Sequence[ir.Value]) -> None:
        """Keys and values of layer i as attention leaves them."""
        for name, cache in zip(cache_names(i), updated, strict=True):
            self.writer.update(name, cache, self.cache_row(i))

    def cache_row(self, i: int) -> tuple[int, str, int]:
        """Extents of one row of layer i's caches."""
        layer = self.shape.layers[i]
        return (layer.num_kv_heads, "C", layer.head_dim)

    def _attention(self, i: int) -> AttentionSpec:
        layer = self.shape.layers[i]
        return AttentionSpec(
            layer.num_heads,
            layer.num_kv_heads,
            layer.head_dim,
            self.block_size,
            window=layer.window,
            causal=self.causal(layer),
            scale=layer.scale,
            softcap=layer.softcap,
            sinks=layer.sinks,
        )

    def _overload(self, i: int) -> str:
        """Which of several bodies layer i has, where layers differ."""
        kinds = list(dict.fromkeys(self.shape.layers))
        return f"kind{kinds.index(self.shape.layers[i])}" if len(kinds) > 1 else ""

    def _rope(self, layer: LayerSpec) -> tuple[ir.Value, ir.Value]:
        """cos and sin [P, D/2], once for all layers that are rotated alike."""
        key = (layer.rope, layer.head_dim)
        if key not in self._tables:
            kind = f".{len(self._tables)}" if self._tables else ""
            tables = zip(("cos", "sin"), rope_tables(*key, self.positions), strict=True)
            cos, sin = (self.writer.constant(f"rope{kind}.{name}", table) for name, table in tables)
            self._tables[key] = cos, sin
        return self._tables[key]

    def _mlp(self, i: int, x: ir.Value) -> ir.Value:
        w, op, prefix = self.writer, self.writer.op, f"layers.{i}.mlp"
        experts = self.shape.layers[i].experts
        if experts is not None and not experts.parallel_width:
            return expert_mlp(w, self.shape, i, x)
        both = w.linear(
            x,
            f"{prefix}.gate_proj.weight",
            f"{prefix}.up_proj.weight",
            fused=f"{prefix}.gate_up_proj.weight",
        )
        layer = self.shape.layers[i]
        gate, up = self.split(both, layer.intermediate_size, layer.intermediate_size)
        bent = op.Gelu(gate, approximate="tanh") if layer.activation == "gelu_tanh" else op.Mul(gate, op.Sigmoid(gate))
        return w.linear(op.Mul(bent, up), f"{prefix}.down_proj.weight")


def cache_names(i: int) -> list[str]:
    """Graph inputs of layer i's keys and values."""
    return [f"{kind}_cache.{i}" for kind in ("key", "value")]
