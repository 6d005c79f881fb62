"""The forms that other servers read, held against what their loaders ask for."""

from __future__ import annotations

import json

import pytest

from dspark_calibration.interchange import sglang_cost_table, sglang_temperatures, tensorrt_llm_temperatures
from dspark_export.calibrating.replay import MeasuredMachine
from dspark_export.calibrating.writing import steps_per_second
from tests.support.cost_by_hand import cost_table


def test_temperatures() -> None:
    ours = sglang_temperatures([1.5, 2.0], "gsm8k+mbpp", 1000, [0.1, 0.2], [0.01, 0.02])
    loaded = json.loads(json.dumps(ours))
    assert loaded["temperatures"] == [1.5, 2.0]
    assert (loaded["dataset"], loaded["num_samples"]) == ("gsm8k+mbpp", 1000)
    assert (loaded["ece_before"], loaded["ece_after"]) == ([0.1, 0.2], [0.01, 0.02])
    assert json.loads(json.dumps(tensorrt_llm_temperatures([1.5, 2.0]))) == {"sts_temperatures": [1.5, 2.0]}


def test_cost_table_is_by_tokens_alone_rising_in_tokens_and_falling_in_rate() -> None:
    rates = steps_per_second(MeasuredMachine(cost_table(), 100))
    # Fixed parts: 0.2 s with one request, 0.3 s with two; two tokens were measured with both.
    assert [tokens for tokens, _ in rates] == [1, 2, 4, 8]
    seconds = {tokens: 1.0 / rate for tokens, rate in rates}
    assert seconds[1] == pytest.approx(0.7)
    assert seconds[2] == pytest.approx((0.6 + 0.2 + 0.8 + 0.3) / 2)
    assert seconds[4] == pytest.approx(0.8 + 0.2)
    assert seconds[8] == pytest.approx(1.1 + 0.3)
    table = sglang_cost_table(rates[::-1])
    tokens, per_second = table["sample_batch_tokens"], table["sample_steps_per_sec"]
    assert tokens == sorted(set(tokens))
    assert len(tokens) == len(per_second)
    assert per_second == sorted(per_second, reverse=True)
    assert table["max_batch_tokens"] == tokens[-1]
