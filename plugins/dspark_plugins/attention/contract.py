"""Packed, ragged attention with caches: what target and drafter graphs ask of every backend.

R rows (requests), row r holds `row_lengths[r]` tokens of a packed axis; C is the cache capacity,
Hq and Hkv query and key/value heads of width D. All floating tensors are float32.

`dspark::CachedAttention` (target; causal):
    query [N, Hq*D], key [N, Hkv*D], value [N, Hkv*D], row_lengths [R] int64, used [R] int64,
    cos [P, D/2], sin [P, D/2], key_cache [R, Hkv, C, D], value_cache [R, Hkv, C, D]
    -> output [N, Hq*D], key_cache, value_cache
    Token i of row r stands at position used[r] + i, is rotated there, written there, and attends to
    positions 0 .. used[r] + i of its row; with a `window` W only to the last W of these.

`dspark::BlockAttention` (drafter; design §2): the same inputs, except that row_lengths counts context
    features, M in all, query is [R*block, Hq*D] and key/value are [M + R*block, Hkv*D]: all rows'
    context features first, then all rows' blocks.
    Context feature i of row r stands at position used[r] + i and is written to the cache; the block
    stands at used[r] + row_lengths[r] and after. Every block token attends to the row's whole context
    and to the whole block; with a `window` W only to the last W of the context, the same for all of the
    block, and where it is `causal` only to the block's tokens up to itself.

With `sinks` there is one more input, sinks [Hq]: each head's is one more score in the softmax, which brings no value.

Scores are query times key times `scale` (D ** -0.5 where it is left out), and with a `softcap` c then
c * tanh(score / c).

Cache entries from used[r] + row_lengths[r] on are undefined afterwards: a backend may write there (up
to `block` entries), and a caller rolls back by passing a smaller `used` next time. The capacity must
leave room for that. The caller owns the caches; backends update them in place. What is undefined is never
read by a lowering; the function bodies mask it, so for them it must be finite.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CACHED_ATTENTION = "CachedAttention"
BLOCK_ATTENTION = "BlockAttention"
INPUTS = ("query", "key", "value", "row_lengths", "used", "cos", "sin", "key_cache", "value_cache")
OUTPUTS = ("output", "key_cache_out", "value_cache_out")


@dataclass(frozen=True)
class AttentionSpec:
    """Attributes of both ops; `block_size` is 0 for `CachedAttention`, which always is causal and is not told so
    (`ValueError`)."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int = 0
    window: int = field(default=0, kw_only=True)
    causal: bool = field(default=False, kw_only=True)
    scale: float | None = field(default=None, kw_only=True)
    softcap: float = field(default=0.0, kw_only=True)
    sinks: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.causal and not self.block_size:
            raise ValueError("causal is an attribute of blocks: CachedAttention always is")
        if self.sinks and self.block_size:
            raise ValueError("BlockAttention has no sinks")

    @property
    def factor(self) -> float:
        """What query times key is multiplied by."""
        return float(self.head_dim) ** -0.5 if self.scale is None else self.scale

    @property
    def op_type(self) -> str:
        """The op this spec belongs to."""
        return BLOCK_ATTENTION if self.block_size else CACHED_ATTENTION

    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return (*INPUTS, "sinks") if self.sinks else INPUTS

    def attributes(self) -> dict[str, int | float]:
        """The node's attributes, by name; those that say nothing are left out."""
        heads = {"num_heads": self.num_heads, "num_kv_heads": self.num_kv_heads, "head_dim": self.head_dim}
        rest = {
            "block_size": self.block_size,
            "window": self.window,
            "causal": int(self.causal),
            "scale": self.scale,
            "softcap": self.softcap,
            "sinks": int(self.sinks),
        }
        return {**heads, **{name: value for name, value in rest.items() if value}}
