"""Is an answer right? Exact match after the normalisation that a benchmark itself prescribes. No code is run."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal, NamedTuple

from dspark_export.evaluating.mathematics import boxed, normalise_math

Kind = Literal["number", "math", "code", "text"]

MARK = "####"
"""Stands in front of the final number in GSM8K's own solutions."""
NUMBER = re.compile(r"[-+]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+")
FENCED = re.compile(r"```[^\n]*\n(.*?)```", re.S)


class Answer(NamedTuple):
    """What is expected, one spelling or several, and how it is compared.

    number: GSM8K, the number in the last \\boxed{}, behind #### or at the end of the text, as a value.
    math: MATH, what the last \\boxed{} holds (`normalise_math`).
    code: the reference solution, line for line but for blank lines and trailing spaces; of a text with fenced blocks,
    one of them. Other code that is right counts as wrong.
    text: the whole text, or what its last \\boxed{} holds, but for white space.
    """

    kind: Kind
    expected: tuple[str, ...]

    def matches(self, text: str) -> bool:
        """Whether `text`, a model's output, gives the answer."""
        match self.kind:
            case "number":
                found = final_number(text)
                return found is not None and any(found == final_number(answer) for answer in self.expected)
            case "math":
                given = boxed(text)
                return given is not None and normalise_math(given) in map(normalise_math, self.expected)
            case "code":
                blocks = FENCED.findall(text) or [text]
                wanted = {normalise_code(answer) for answer in self.expected}
                return any(normalise_code(block) in wanted for block in blocks)
        given = boxed(text)
        return " ".join((text if given is None else given).split()) in {" ".join(a.split()) for a in self.expected}


def expect(answer: str) -> Answer:
    """An answer of which only the text is known: a number where it is one, mathematics where it is LaTeX, else text."""
    if MARK in answer or NUMBER.fullmatch(answer.strip()):
        return Answer("number", (answer,))
    inner = boxed(answer)
    if inner is not None:
        return Answer("math", (inner,))
    return Answer("math" if "\\" in answer else "text", (answer,))


def final_number(text: str) -> Decimal | None:
    """The number that a text ends with: of its last \\boxed{}, else of what stands behind ####, else of all of it."""
    inner = boxed(text)
    for part in (inner or "", text.rpartition(MARK)[2] if MARK in text else "", text):
        numbers = NUMBER.findall(part.replace("{,}", ","))  # as LaTeX writes thousands
        if numbers:
            return Decimal(numbers[-1].replace(",", "").replace("$", ""))
    return None


def normalise_code(text: str) -> str:
    """Code without blank lines, trailing spaces and the difference between tabs and four spaces."""
    lines = (line.expandtabs(4).rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)
