"""What counts as a right answer, by the benchmarks' own rules."""

from __future__ import annotations

from decimal import Decimal

import pytest

from dspark_export.evaluating.answers import Answer, expect, final_number
from dspark_export.evaluating.mathematics import boxed, normalise_math


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("He pays $1,234.50.", "1234.5"),
        ("It is \\boxed{11}, and 3 are left.", "11"),
        ("so\n#### -7", "-7"),
        ("3 + 4 = 7\n#### 7\n\nCheck: 8", "8"),  # behind ####, the last
        ("1, 2, 3", "3"),
        ("The answer is 18 dollars", "18"),
        ("\\boxed{\\$1{,}000} in 5 days", "1000"),
        (".5", "0.5"),
        ("none", None),
        ("", None),
    ],
)
def test_the_number_that_a_text_ends_with(text: str, number: str | None) -> None:
    assert final_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac12", r"\dfrac{1}{2}"),
        ("1/2", r"\frac{1}{2}"),
        ("0.5", r"\frac{1}{2}"),
        (r"\frac1{72}", r"\frac{1}{72}"),
        ("x=5", "5"),
        (r"10\text{ cm}", "10"),
        ("1,000", "1000"),
        (r"1{,}000", "1000"),
        (r"90^\circ", "90"),
        (r"\sqrt3", r"\sqrt{3}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"5\%", "5"),
        (r"\$18.90", "18.9"),
        (r"\text{Friday}", "Friday"),
        ("2.0", "2"),
        (r"11\,\! 111\,\! 111", "11111111"),
        (r"-\frac13", r"-1/3"),
    ],
)
def test_spellings_of_one_answer(one: str, other: str) -> None:
    assert normalise_math(one) == normalise_math(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "-1"), (r"\frac{1}{2}", r"\frac{2}{1}"), ("(1,2)", "(2,1)"), ("x+1", "x-1"), ("1e5", "15")]
)
def test_answers_that_differ(one: str, other: str) -> None:
    assert normalise_math(one) != normalise_math(other)


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        (r"so \boxed{1} or \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\fbox{3}", "3"),
        (r"$\boxed 7$", "7"),
        (r"\boxed{a", None),
        ("nothing", None),
    ],
)
def test_what_the_last_box_holds(text: str, inner: str | None) -> None:
    assert boxed(text) == inner


CODE = "def f(x):\n    return x\n"


@pytest.mark.parametrize(
    ("answer", "right", "wrong"),
    [
        (expect("#### 1,200"), ["1200", "so \\boxed{1200}.", "It is $1,200.00"], ["1201", "", "no number"]),
        (expect("7"), ["7 apples", "#### 7"], ["70", "-7"]),
        (expect(r"\frac{1}{2}"), [r"\boxed{0.5}", r"$\boxed{\frac12}$"], ["0.5", r"\boxed{2}"]),
        (expect("Paris"), ["Paris", " Paris\n", r"the answer: \boxed{Paris}"], ["paris", "It is Paris."]),
        (
            Answer("code", (CODE,)),
            [CODE, f"Here:\n```python\n{CODE}```\nand\n```\nprint(f(1))\n```", "def f(x):\n\n\treturn x  "],
            ["def f(y):\n    return y", "```python\nx = 1\n```", f"Here:\n{CODE}"],
        ),
    ],
    ids=["gsm8k", "number", "math", "text", "code"],
)
def test_right_and_wrong(answer: Answer, right: list[str], wrong: list[str]) -> None:
    assert [answer.matches(text) for text in right] == [True] * len(right)
    assert [answer.matches(text) for text in wrong] == [False] * len(wrong)
