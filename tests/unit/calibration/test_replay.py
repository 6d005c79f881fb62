"""Replays whose result can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dspark_engines.scheduler import FixedSpec, ThresholdSpec
from dspark_export.calibrating.replay import MeasuredMachine, lay_out, oracle, plain_throughput, replay
from tests.support.cost_by_hand import cost_table
from tests.support.rounds import known_rounds

MACHINE = MeasuredMachine(cost_table(), 100)


def rounds(accepted: list[int], confidence: list[list[float]]):
    made = known_rounds(len(accepted), (1.0,) * len(confidence[0]))
    odds = np.array(confidence)
    return replace(made, accepted=np.array(accepted), logits=np.log(odds / (1 - odds))), odds


def test_rows_live_through_the_rounds_in_order() -> None:
    found, confidence = rounds([0, 1, 2, 3, 0, 1, 2], [[0.5, 0.5, 0.5]] * 7)
    streams = lay_out(found, confidence, 2)
    assert streams.accepted.tolist() == [[0, 3], [1, 0], [2, 1]]
    assert streams.survival[0, 0].tolist() == [0.5, 0.25, 0.125]
    assert (streams.request_ids[:, 0] != streams.request_ids[:, 1]).all()
    with pytest.raises(ValueError, match="7 rounds for 8 rows"):
        lay_out(found, confidence, 8)


def test_plain_decoding_pays_no_draft() -> None:
    assert plain_throughput(MACHINE, 1) == pytest.approx(1 / (0.5 + 0.1))
    assert plain_throughput(MACHINE, 2) == pytest.approx(2 / (0.8 + 0.1))


def test_fixed_and_threshold_by_hand() -> None:
    found, confidence = rounds([0, 3, 1], [[0.9, 0.8, 0.7], [0.9, 0.9, 0.9], [0.4, 0.5, 0.5]])
    streams = lay_out(found, confidence, 1)
    whole = replay(streams, FixedSpec(), MACHINE)
    assert (whole.verify_length, whole.budget, whole.accepted_length) == (3.0, 3.0, 1 + 4 / 3)
    assert whole.wasted == pytest.approx(5 / 9)
    assert whole.realised == pytest.approx(7 / (3 * 1.0))  # 0.8 s verify, 0.1 draft, 0.1 other, three times
    expected = 3 + (0.9 + 0.72 + 0.504) + (0.9 + 0.81 + 0.729) + (0.4 + 0.2 + 0.1)
    assert whole.expected == pytest.approx(expected / 3)
    some = replay(streams, ThresholdSpec(0.6), MACHINE)  # 2, 3 and 0 draft tokens: 3, 4 and 1 tokens verified
    assert some.verify_length == pytest.approx(5 / 3)
    assert some.accepted_length == pytest.approx(1 + 3 / 3)
    assert some.realised == pytest.approx(6 / (0.7 + 0.2 + 0.8 + 0.2 + 0.5 + 0.2))
    assert some.wasted == pytest.approx(2 / 5)


def test_nothing_verified_wastes_nothing() -> None:
    found, confidence = rounds([2, 0], [[0.1, 0.1]] * 2)
    none = replay(lay_out(found, confidence, 2), FixedSpec(0), MACHINE)
    assert (none.verify_length, none.wasted, none.accepted_length) == (0.0, 0.0, 1.0)
    assert none.realised == pytest.approx(2 / (0.8 + 0.3))


def test_the_oracle_wastes_nothing_and_expects_what_comes() -> None:
    found = known_rounds(400, (1.0, 1.0, 1.0))
    best = replay(lay_out(found, oracle(found), 2), "algorithm1", MACHINE)
    assert best.wasted == 0.0
    assert best.expected == pytest.approx(best.realised)


@pytest.mark.parametrize("scheduler", ["algorithm1", "async"])
def test_schedulers_that_read_costs_beat_whole_blocks_where_tokens_are_dear(scheduler: str) -> None:
    found, confidence = rounds([0, 1] * 100, [[0.45, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]] * 200)
    streams = lay_out(found, confidence, 2)
    assert replay(streams, scheduler, MACHINE).realised > replay(streams, "fixed", MACHINE).realised
