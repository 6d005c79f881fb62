"""From records made by hand to the evaluation: every figure has a value that can be worked out."""

from __future__ import annotations

import json

import pytest

from dspark_export.evaluating.figures import Sample
from dspark_export.evaluating.records import Parting
from dspark_export.evaluating.schema import Evaluation
from tests.support.evaluations import HARD, plain_record, question, record, sample_evaluation

TIE = Parting(position=3, plain=5, speculative=6, gap=2e-5, tie=True)
WRONG = Parting(position=3, plain=5, speculative=6, gap=0.5, tie=False)


def test_figures_of_one_way() -> None:
    first, second = question(1), question(2)
    rounds = [(4, 4, 5), (4, 2, 3), (4, 0, 1), (2, 2, 3), (0, 0, 1)]
    records = [record(first, "d", rounds, 2.0), record(second, "d", [(4, 1, 2)], 1.0)]
    figures = Sample(records, [plain_record(first, 26), plain_record(second, 4)]).figures("all", 4)
    assert (figures.prompts, figures.rounds, figures.tokens) == (2, 6, 17)
    assert figures.accepted_length is not None
    assert figures.accepted_length.value == pytest.approx(15 / 6)
    assert (figures.verified, figures.rejected) == (18, 9)
    assert figures.wasted == pytest.approx(9 / 15)
    assert figures.tokens_per_second == pytest.approx((13 / 2 + 2 / 1) / 2)
    assert figures.ratio is not None
    ratios = [6.5 / 2.6, 2.0 / 0.4]
    assert figures.ratio.median == pytest.approx(sum(ratios) / 2)
    assert figures.ratio.mean.value == pytest.approx((ratios[0] * ratios[1]) ** 0.5)
    assert figures.first_token_seconds == pytest.approx(0.1)


def test_acceptance_is_of_the_rounds_that_got_there() -> None:
    """Position 3 was verified by the first three rounds, two of which had positions 1 and 2 accepted."""
    rounds = [(4, 4, 5), (4, 2, 3), (4, 0, 1), (2, 2, 3), (0, 0, 1)]
    asked = question(1)
    figures = Sample([record(asked, "d", rounds, 2.0)], [plain_record(asked)]).figures("all", 4)
    assert [(p.position, p.reached, p.accepted) for p in figures.positions] == [
        (1, 4, 3), (2, 3, 3), (3, 2, 1), (4, 1, 1),
    ]  # fmt: skip
    assert [p.acceptance for p in figures.positions] == [0.75, 1.0, 0.5, 1.0]


def test_outputs_of_one_token_have_no_speed_and_no_rounds() -> None:
    asked = question(1)
    figures = Sample([record(asked, "d", [], 0.0)], [plain_record(asked)]).figures("all", 4)
    assert (figures.accepted_length, figures.ratio, figures.tokens_per_second, figures.wasted) == (None,) * 4
    assert figures.positions[0].acceptance is None


def test_drafters_against_plain_and_each_other() -> None:
    evaluation = sample_evaluation()
    (mode,) = evaluation.modes
    good, poor = mode.way("good"), mode.way("poor")
    assert good.overall.accepted_length is not None
    assert good.overall.accepted_length.value == 5.0
    assert good.overall.ratio is not None
    assert good.overall.ratio.mean.value == pytest.approx(4.0)
    assert [source.source for source in good.sources] == ["gsm8k", HARD]
    assert poor.accuracy is not None
    assert (poor.accuracy.correct, poor.accuracy.prompts) == (12, 12)
    (pair,) = mode.pairs
    assert pair.accepted_length is not None
    assert pair.accepted_length.value == pytest.approx(3.0)
    assert (pair.accepted_shown, pair.speed_shown) == (True, True)
    assert mode.way("plain again").overall.ratio.mean.value == pytest.approx(1.0)  # type: ignore[union-attr]
    assert evaluation.passed


def test_the_sentence_says_what_is_shown_and_what_is_not() -> None:
    evaluation = sample_evaluation()
    assert "good has 4.00 times the tokens/s of plain decoding (95% interval 4.00 to 4.00, 12 prompts)" in (
        evaluation.verdict
    )
    assert "good accepts 3.00 more tokens a round than poor (95% interval 3.00 to 3.00, 12 prompts)" in (
        evaluation.verdict
    )
    assert "greedy output is that of plain decoding in 12 of 12 prompts, with every drafter" in evaluation.verdict
    found = evaluation.modes[0].findings
    assert any(
        text.startswith("tokens/s of poor and plain decoding are not told apart by these 12 prompts (")
        for text in found
    )


def test_few_prompts_show_nothing_however_large_the_difference() -> None:
    evaluation = sample_evaluation(prompts=4)
    (pair,) = evaluation.modes[0].pairs
    assert (pair.accepted_shown, pair.speed_shown) == (False, False)
    assert "4 prompts can tell nothing apart, take at least 5" in evaluation.verdict
    assert evaluation.caveats[0] == "Only 4 prompts: the intervals are rough."


@pytest.mark.parametrize(("parting", "passed", "words"), [(TIE, True, "ties"), (WRONG, False, "GREEDY OUTPUT DIFFERS")])
def test_a_difference_is_a_bug_unless_it_is_a_tie(parting: Parting, passed: bool, words: str) -> None:
    evaluation = sample_evaluation(parting=parting)
    identity = evaluation.modes[0].way("good").identity
    assert identity is not None
    assert (identity.identical, identity.prompts, identity.ties) == (11, 12, int(passed))
    assert evaluation.passed is passed
    assert words in evaluation.verdict
    assert "good" in evaluation.verdict.partition(words)[2]


def test_what_is_sampled_is_a_mode_of_its_own_and_not_compared_token_by_token() -> None:
    evaluation = sample_evaluation(sampled=True)
    assert [mode.mode for mode in evaluation.modes] == ["greedy", "sampled"]
    assert all(way.identity is None for way in evaluation.modes[1].ways)
    assert evaluation.verdict.startswith("Greedy: ")
    assert " Sampled: good has 4.00 times" in evaluation.verdict


def test_the_evaluation_goes_to_json_and_back() -> None:
    evaluation = sample_evaluation(parting=TIE)
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation
    assert json.loads(evaluation.model_dump_json())["schema_version"] == 1
