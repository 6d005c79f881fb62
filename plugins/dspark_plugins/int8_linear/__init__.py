"""Linear layers in 8-bit integers, row by row: `dspark::QuantizeRows` and `dspark::Int8Linear`."""

from dspark_plugins.int8_linear.contract import (
    INT8_LINEAR,
    LEVELS,
    QUANTIZE_ROWS,
    REMAINDER,
    SMALLEST_SCALE,
    ZERO_POINT,
)

__all__ = ["INT8_LINEAR", "LEVELS", "QUANTIZE_ROWS", "REMAINDER", "SMALLEST_SCALE", "ZERO_POINT"]
