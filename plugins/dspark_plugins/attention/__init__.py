"""Packed attention with caches: `dspark::CachedAttention` and `dspark::BlockAttention`."""

from dspark_plugins.attention.contract import (
    BLOCK_ATTENTION,
    CACHED_ATTENTION,
    INPUTS,
    OUTPUTS,
    AttentionSpec,
)

__all__ = ["BLOCK_ATTENTION", "CACHED_ATTENTION", "INPUTS", "OUTPUTS", "AttentionSpec"]
