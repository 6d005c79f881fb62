"""A linear layer whose products and sums are integers, so that a row's result does not depend on other rows.

`dspark::QuantizeRows`: one scale a row (a token), whatever other rows hold.
    x [n, K] float32 -> quantized [terms*n, K] uint8, scale [terms*n, 1] float32
    First term: scale = max(max|x| / 127, SMALLEST_SCALE), quantized = round_half_even(x / scale) + 128.
    With `terms` 2 the n rows of the remainder follow, r = x - (quantized - 128) * scale under scale / 254: its
    largest value is half a scale, so 127 levels stand for it again. That is for inputs with outliers, which
    leave the other channels of their row few of the levels.

`dspark::Int8Linear`: no bias.
    quantized [terms*n, K] uint8, scale [terms*n, 1] float32, weight [K, N] int8, weight_scale [N] float32
    -> y [n, N] float32, the sum over terms of float(sum_k (quantized - 128) * weight) * weight_scale * scale

Weights are symmetric, one scale an output channel: weight = round(w / weight_scale), weight_scale = max|w| / 127.
Two ops rather than one, because layers that read the same input share its quantisation. The sums are exact
integers: they have one value in whatever order, and for however many rows at once, they are computed. What
follows is rounded, and a backend does it in the order written above. Both terms go through one product: at the
sizes of a verify step a weight is read once for all rows, and twice as many of them cost little.
K may be at most 131,000 or so: 127 * 128 * K has to fit into 32 bits.
"""

QUANTIZE_ROWS = "QuantizeRows"
INT8_LINEAR = "Int8Linear"

LEVELS = 127
"""Largest magnitude of a quantised value; -128 is not used, so that the range is symmetric."""

ZERO_POINT = 128
"""What stands for 0 among quantised rows: integer kernels of x86 processors want them unsigned."""

REMAINDER = 2 * LEVELS
"""How much finer the second term's scale is."""

SMALLEST_SCALE = 1e-30
"""The scale of a row of zeros."""
