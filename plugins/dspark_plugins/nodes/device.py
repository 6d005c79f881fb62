"""Triton functions that the kernels of both ops share. They run inside kernels only."""

import triton
import triton.language as tl


@triton.jit
def long(number):
    """A number as int64, for offsets that may pass 2^31; a loop's counter is a Python int under the interpreter."""
    return number + tl.full((), 0, tl.int64)


@triton.jit
def hotness(temperature):
    """The divisor of a row's logits: its temperature, or 1 where that is 0 and nothing is drawn."""
    return tl.where(temperature > 0, temperature, 1.0)


@triton.jit
def finite(maximum):
    """A maximum that may be subtracted: -inf, which a tile of excluded tokens has, becomes 0."""
    return tl.where(maximum == float("-inf"), 0.0, maximum)


@triton.jit
def without_nan(values):
    """NaN becomes +inf, which a maximum is sure to find."""
    return tl.where(values < float("inf"), values, float("inf"))


@triton.jit
def is_number(maximum):
    """Whether a line's maximum is finite."""
    return (maximum < float("inf")) & (maximum > float("-inf"))


@triton.jit
def first_at(values, target, indices, LAST: tl.constexpr):
    """The lowest of `indices` whose value equals `target`; LAST where none does, as with NaN."""
    return tl.minimum(tl.min(tl.where(values == target, indices, LAST), 0), LAST)


@triton.jit
def first_above(weights, threshold, indices):
    """(the first index whose cumulative weight exceeds the threshold, the weight before it).

    Weights are float64 and not negative. An index of weight 0 is never returned while another has some: where rounding
    leaves every sum at or below the threshold, the last index with a weight is. No weight at all gives index 0.
    """
    cumulative = tl.cumsum(weights, 0)
    reached = tl.where((cumulative > threshold) & (weights > 0), indices, 2147483647)
    last = tl.max(tl.where(weights > 0, indices, 0), 0)
    index = tl.minimum(tl.min(reached, 0), last)
    return index, tl.sum(tl.where(indices < index, weights, 0.0), 0)
