"""The layouts that benchmarks are published in, and the project's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from dspark_export.evaluating.answers import MARK, Answer, expect
from dspark_export.evaluating.layout import Layout
from dspark_export.evaluating.mathematics import boxed

REASONING = "\nPlease reason step by step, and put your final answer within \\boxed{}."
"""What the project's own prompt sets put behind a question of mathematics."""


def _words(value: Any) -> Any:
    """Answers that are numbers in JSON."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_words)]


class Gsm8k(Layout):
    """openai/grade-school-math: the solution ends with "#### " and the number."""

    title, keys = "gsm8k", "question, answer"
    query: str = Field(alias="question")
    answer: Text | None = None

    @classmethod
    def fits(cls, fields: Mapping[str, Any]) -> bool:
        return "question" in fields

    @property
    def text(self) -> str:
        return _reasoned(self.query)

    @property
    def expected(self) -> Answer | None:
        return None if self.answer is None else expect(self.answer.rpartition(MARK)[2])


class Math(Layout):
    r"""hendrycks/math (`solution` with \boxed{}) and MATH-500 (`answer` as well)."""

    title, keys = "math", "problem, solution or answer"
    problem: str
    solution: str | None = None
    answer: Text | None = None
    unique_id: str | None = None

    @classmethod
    def fits(cls, fields: Mapping[str, Any]) -> bool:
        return "problem" in fields

    @property
    def text(self) -> str:
        return _reasoned(self.problem)

    @property
    def number(self) -> str | None:
        return self.unique_id

    @property
    def expected(self) -> Answer | None:
        answer = boxed(self.solution or "") if self.answer is None else self.answer
        return None if answer is None else Answer("math", (answer,))


class HumanEval(Layout):
    """openai/human-eval: the prompt is the beginning of a function, as it is."""

    title, keys = "humaneval", "task_id, prompt, canonical_solution, test"
    prompt: str
    task_id: str | int | None = None
    canonical_solution: str | None = None
    answer: Text | None = None

    @classmethod
    def fits(cls, fields: Mapping[str, Any]) -> bool:
        return "prompt" in fields and ("canonical_solution" in fields or "entry_point" in fields)

    @property
    def text(self) -> str:
        return self.prompt

    @property
    def number(self) -> str | int | None:
        return self.task_id

    @property
    def expected(self) -> Answer | None:
        solution = self.canonical_solution
        return _code(self.answer, solution, solution and self.prompt + solution)


class Mbpp(Layout):
    """google-research/mbpp (`text`) and its sanitized form (`prompt`): the problem alone, without its tests."""

    title, keys = "mbpp", "task_id, text or prompt, code, test_list"
    problem: str = Field(validation_alias=AliasChoices("text", "prompt"))
    task_id: str | int | None = None
    code: str | None = None
    answer: Text | None = None

    @classmethod
    def fits(cls, fields: Mapping[str, Any]) -> bool:
        return bool(fields.keys() & {"text", "prompt"} and fields.keys() & {"test_list", "code"})

    @property
    def text(self) -> str:
        return self.problem

    @property
    def number(self) -> str | int | None:
        return self.task_id

    @property
    def expected(self) -> Answer | None:
        return _code(self.answer, self.code)


class MtBench(Layout):
    """FastChat's MT-Bench, and Spec-Bench, which has its layout: the first turn; the category is the source."""

    title, keys = "mt-bench", "question_id, turns"
    turns: list[str] = Field(min_length=1)
    question_id: str | int | None = None
    category: str | None = None

    @classmethod
    def fits(cls, fields: Mapping[str, Any]) -> bool:
        return "turns" in fields

    @property
    def text(self) -> str:
        return self.turns[0]

    @property
    def number(self) -> str | int | None:
        return self.question_id

    @property
    def group(self) -> str:
        return self.category or self.title


class Alpaca(Layout):
    """tatsu-lab/stanford_alpaca: the instruction, and its input below it."""

    title, keys = "alpaca", "instruction, input"
    instruction: str
    input: str = ""

    @classmethod
    def fits(cls, fields: Mapping[str, Any]) -> bool:
        return "instruction" in fields

    @property
    def text(self) -> str:
        return f"{self.instruction}\n\n{self.input}" if self.input.strip() else self.instruction


class Own(Layout):
    """The project's own sets."""

    title, keys = "prompts", "prompt, and optionally id, source, answer"
    prompt: str
    answer: Text | None = None

    @classmethod
    def fits(cls, fields: Mapping[str, Any]) -> bool:
        return "prompt" in fields

    @property
    def text(self) -> str:
        return self.prompt

    @property
    def expected(self) -> Answer | None:
        return None if self.answer is None else expect(self.answer)


def _reasoned(question: str) -> str:
    """Nothing where nothing is asked."""
    return question + REASONING if question.strip() else ""


def _code(answer: str | None, *solutions: str | None) -> Answer | None:
    """The line's own answer before its reference solution."""
    known = tuple(solution for solution in solutions if solution)
    return expect(answer) if answer is not None else Answer("code", known) if known else None
