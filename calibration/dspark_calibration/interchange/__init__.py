"""Temperatures and cost tables in the forms that other servers read."""

from dspark_calibration.interchange.sglang import sglang_cost_table, sglang_temperatures
from dspark_calibration.interchange.tensorrt_llm import tensorrt_llm_temperatures

__all__ = ["sglang_cost_table", "sglang_temperatures", "tensorrt_llm_temperatures"]
