"""Prompt sets as benchmarks publish them: lines with the keys and the spelling of the real files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from dspark_engines.errors import DsparkError
from dspark_export.evaluating import layouts
from dspark_export.evaluating.answers import Answer
from dspark_export.evaluating.benchmarks import REASONING
from dspark_export.evaluating.layout import Layout, Question
from dspark_export.evaluating.layouts import LAYOUTS, questions_hash, read_questions, require_answers, take_evenly

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "evaluating.md").read_text("utf-8")
WORDS = {"and", "optionally", "or"}
ROWS = [
    line.split("|")[1:-1] for line in TEXT.split("## Prompt sets\n")[1].split("\n## ")[0].splitlines() if "| `" in line
]

LINES: dict[str, tuple[dict[str, Any], tuple[str, str, str], Answer | None]] = {
    "own": (
        {"id": "gsm8k/200", "source": "gsm8k", "prompt": "How many?"},
        ("gsm8k/200", "gsm8k", "How many?"),
        None,
    ),
    "own, with an answer": (
        {"prompt": "How many?", "answer": 7},
        ("prompts/1", "prompts", "How many?"),
        Answer("number", ("7",)),
    ),
    "gsm8k": (
        {
            "question": "Natalia sold clips to 48 of her friends in April.",
            "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nAltogether <<48+24=72>>72 clips.\n#### 72",
        },
        ("gsm8k/1", "gsm8k", "Natalia sold clips to 48 of her friends in April." + REASONING),
        Answer("number", (" 72",)),
    ),
    "math": (
        {
            "problem": "Evaluate $\\log_21$.",
            "level": "Level 1",
            "type": "Algebra",
            "solution": "So $\\log_21=\\boxed{0}$.",
        },
        ("math/1", "math", "Evaluate $\\log_21$." + REASONING),
        Answer("math", ("0",)),
    ),
    "math-500": (
        {
            "problem": "Convert the point $(0,3)$.",
            "solution": "The answer is $\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}.$",
            "answer": "\\left( 3, \\frac{\\pi}{2} \\right)",
            "subject": "Precalculus",
            "level": 2,
            "unique_id": "test/precalculus/807.json",
        },
        ("test/precalculus/807.json", "math", "Convert the point $(0,3)$." + REASONING),
        Answer("math", ("\\left( 3, \\frac{\\pi}{2} \\right)",)),
    ),
    "humaneval": (
        {
            "task_id": "HumanEval/0",
            "prompt": "def f(x):\n",
            "entry_point": "f",
            "canonical_solution": "    return x\n",
            "test": "def check(candidate):\n    assert candidate(1) == 1\n",
        },
        ("HumanEval/0", "humaneval", "def f(x):\n"),
        Answer("code", ("    return x\n", "def f(x):\n    return x\n")),
    ),
    "mbpp": (
        {
            "text": "Write a function to find the shared elements.",
            "code": "def f(a, b):\r\n  return a",
            "task_id": 2,
            "test_setup_code": "",
            "test_list": ["assert f(1, 2) == 1"],
            "challenge_test_list": [],
        },
        ("mbpp/2", "mbpp", "Write a function to find the shared elements."),
        Answer("code", ("def f(a, b):\r\n  return a",)),
    ),
    "mbpp, sanitized": (
        {
            "source_file": "Benchmark Questions Verification V2.ipynb",
            "task_id": 3,
            "prompt": "Write a python function.",
            "code": "def g(): pass",
            "test_imports": [],
            "test_list": ["assert g() is None"],
        },
        ("mbpp/3", "mbpp", "Write a python function."),
        Answer("code", ("def g(): pass",)),
    ),
    "mbpp, with an answer of its own": (
        {"task_id": 3, "prompt": "Write a python function.", "test_list": [], "answer": "42"},
        ("mbpp/3", "mbpp", "Write a python function."),
        Answer("number", ("42",)),
    ),
    "mt-bench": (
        {"question_id": 81, "category": "writing", "turns": ["Compose a blog post.", "Rewrite it."]},
        ("mt-bench/81", "writing", "Compose a blog post."),
        None,
    ),
    "spec-bench": (
        {"question_id": 161, "category": "translation", "turns": ["Translate German to English: Ja"]},
        ("mt-bench/161", "translation", "Translate German to English: Ja"),
        None,
    ),
    "alpaca": (
        {"instruction": "Give three tips for staying healthy.", "input": "", "output": "1. Eat"},
        ("alpaca/1", "alpaca", "Give three tips for staying healthy."),
        None,
    ),
    "alpaca, with input": (
        {"instruction": "Classify.", "input": "Guitar, drum", "output": "String"},
        ("alpaca/1", "alpaca", "Classify.\n\nGuitar, drum"),
        None,
    ),
}


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("case", LINES)
def test_a_line_is_read_in_its_own_layout(tmp_path: Path, case: str) -> None:
    fields, (id, source, text), answer = LINES[case]
    (question,) = read_questions(write(tmp_path / "set.jsonl", fields))
    assert question.prompt[:3] == (id, source, text)
    assert question.answer == answer
    assert question.prompt.place.endswith("set.jsonl:1")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.title)
def test_every_layout_has_a_row_in_the_documentation(layout: type[Layout]) -> None:
    (row,) = [row for row in ROWS if f"`{layout.title}`" in row[3]]
    assert set(re.findall(r"`(\w+)`", row[1])) - {"category"} == set(re.findall(r"\w+", layout.keys)) - WORDS
    assert any(title.lower().startswith(row[0].strip().split(",")[0].lower()) for title in LINES)


def test_no_row_is_of_another_layout() -> None:
    assert len(ROWS) == len(LAYOUTS)


def test_a_file_may_mix_layouts_and_say_its_own_ids_and_sources(tmp_path: Path) -> None:
    mixed = [LINES["gsm8k"][0], LINES["mbpp"][0] | {"source": "mine", "id": "x"}, LINES["own"][0]]
    questions = read_questions(write(tmp_path / "set.jsonl", *mixed))
    assert [question.prompt.id for question in questions] == ["gsm8k/1", "x", "gsm8k/200"]
    assert [question.prompt.source for question in questions] == ["gsm8k", "mine", "gsm8k"]


@pytest.mark.parametrize(
    ("lines", "fragment"),
    [
        ([{"text": "a"}], "set.jsonl:1: in no layout that is known (its keys: text)"),
        ([{}], "its keys: none"),
        ([{"prompt": "a"}, {"question": 7}], "set.jsonl:2: question: Input should be a valid string (found 7)"),
        ([{"turns": []}], "set.jsonl:1: turns: List should have at least 1 item"),
        ([{"question": " "}], "set.jsonl:1: no prompt in this line"),
        ([{"prompt": "a", "id": 1}, {"prompt": "b", "id": "1"}], "set.jsonl:2: prompt id 1 occurs twice"),
        ([{"prompt": "a \ud83d"}], "half a character"),
    ],
    ids=["unknown", "empty", "not text", "no turn", "blank", "twice", "surrogate"],
)
def test_what_is_no_prompt_is_refused_by_its_place(tmp_path: Path, lines: list[Any], fragment: str) -> None:
    with pytest.raises(DsparkError) as caught:
        read_questions(write(tmp_path / "set.jsonl", *lines))
    assert fragment in str(caught.value)
    assert caught.value.hint


def test_an_unknown_layout_names_all_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(DsparkError) as caught:
        read_questions(write(tmp_path / "set.jsonl", {"query": "a"}))
    assert all(layout.title in str(caught.value.hint) for layout in LAYOUTS)


def test_a_layout_can_be_registered_and_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ours(Layout):
        title, keys = "ours", "question, tag"
        question_text: str = Field(alias="question")

        @classmethod
        def fits(cls, fields: Mapping[str, Any]) -> bool:
            return "tag" in fields

        @property
        def text(self) -> str:
            return f"Q: {self.question_text}"

    monkeypatch.setattr(layouts, "LAYOUTS", list(LAYOUTS))
    layouts.register_layout(Ours)
    questions = read_questions(write(tmp_path / "set.jsonl", {"question": "a", "tag": 1}, {"question": "b"}))
    assert [question.prompt[:3] for question in questions] == [
        ("ours/1", "ours", "Q: a"), ("gsm8k/2", "gsm8k", "b" + REASONING),
    ]  # fmt: skip


def ids(questions: list[Question]) -> list[str]:
    return [question.prompt.id for question in questions]


def test_a_limit_takes_evenly_and_a_larger_one_adds(tmp_path: Path) -> None:
    lines = [{"prompt": f"p{n}", "id": f"{source}{n}", "source": source} for n, source in enumerate("aaabcb")]
    questions = read_questions(write(tmp_path / "set.jsonl", *lines))
    everything = ids(take_evenly(questions, None))
    assert everything == ["a0", "b3", "c4", "a1", "b5", "a2"]
    assert all(ids(take_evenly(questions, limit)) == everything[:limit] for limit in range(1, 9))


def test_the_hash_is_of_what_is_asked_and_expected_not_of_the_file(tmp_path: Path) -> None:
    first = read_questions(write(tmp_path / "a.jsonl", {"prompt": "p", "answer": "1"}))
    spaced = read_questions(write(tmp_path / "b.jsonl", {"answer": "1", "prompt": "p", "more": 0}))
    other = read_questions(write(tmp_path / "c.jsonl", {"prompt": "p", "answer": "2"}))
    assert questions_hash(first) == questions_hash(spaced) != questions_hash(other)


def test_accuracy_needs_every_answer(tmp_path: Path) -> None:
    questions = read_questions(write(tmp_path / "set.jsonl", {"prompt": "p", "answer": "1"}, {"prompt": "q"}))
    require_answers(questions[:1])
    with pytest.raises(DsparkError, match=r"set.jsonl:2: has no answer"):
        require_answers(questions)
