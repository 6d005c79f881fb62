"""Which tokens a draft vocabulary has, and how much of what was not counted it covers."""

from __future__ import annotations

import numpy as np
import pytest

from dspark_export.vocabulary.counting import coverage, held_out_coverage, most_said


def test_what_is_said_comes_before_what_is_asked_and_that_before_ids() -> None:
    chosen = most_said([[9, 9, 8], [9]], [[7, 7], [6]], size=6, vocab_size=12, always=[11])
    assert chosen.tolist() == sorted([11, 9, 8, 7, 6, 0])


def test_coverage_is_of_tokens_not_of_kinds() -> None:
    assert coverage(np.array([1, 2]), [[1, 1, 1], [3]]) == pytest.approx(0.75)
    assert coverage(np.array([1, 2]), []) == 0.0


def test_held_out_coverage_counts_one_half_and_asks_the_other() -> None:
    answers = [[4, 4, 5], [4, 6, 6], [4, 4, 4], [6, 6, 4]]  # halves say (4 x5, 5) and (4 x2, 6 x4)
    found = held_out_coverage(answers, [[]] * 4, size=1, vocab_size=8, always=())
    assert found == pytest.approx(((2 / 6) + (0 / 6)) / 2)
