"""Prompt sets in the layouts of the benchmarks themselves: one JSON object a line, whose keys say which it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dspark_calibration import first_problem
from dspark_engines.errors import DsparkError
from dspark_export.evaluating.benchmarks import Alpaca, Gsm8k, HumanEval, Math, Mbpp, MtBench, Own
from dspark_export.evaluating.layout import Layout, Question
from dspark_export.prompts import read_objects

LAYOUTS: list[type[Layout]] = [Gsm8k, Math, HumanEval, Mbpp, MtBench, Alpaca, Own]
"""The first that fits a line reads it; `register_layout` puts others in front."""


def register_layout(layout: type[Layout]) -> None:
    """Make a further layout known; it is asked first."""
    LAYOUTS.insert(0, layout)


def read_questions(path: Path) -> list[Question]:
    """Every line of `path`, in any mixture of layouts.

    Raises `DsparkError` naming the line that is of no known layout, lacks a key of its own, or repeats an id.
    """
    questions = [_read(*line) for line in read_objects(path)]
    seen: dict[str, str] = {}
    for id, place in ((question.prompt.id, question.prompt.place) for question in questions):
        if id in seen:
            raise DsparkError(f"{place}: prompt id {id} occurs twice, first at {seen[id]}", hint="give each its own id")
        seen[id] = place
    return questions


def _read(place: str, line: int, fields: dict[str, Any]) -> Question:
    layout = next((layout for layout in LAYOUTS if layout.fits(fields)), None)
    if layout is None:
        found = ", ".join(sorted(fields)[:6]) or "none"
        known = "; ".join(f"{layout.title} ({layout.keys})" for layout in LAYOUTS)
        raise DsparkError(f"{place}: in no layout that is known (its keys: {found})", hint=f"known are: {known}")
    try:
        return layout.model_validate(fields).question(place, line)
    except ValidationError as error:
        hint = f"this looks like {layout.title}, which has: {layout.keys}"
        raise DsparkError(f"{place}: {first_problem(error)}", hint=hint) from None


def take_evenly(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """`limit` questions (all for None): the first of every source, then the second of every source, and so on.

    Sources stand in the order in which the file has them, so a larger limit begins with what a smaller one takes.
    """
    sources: dict[str, list[Question]] = {}
    for question in questions:
        sources.setdefault(question.prompt.source, []).append(question)
    turns = chain.from_iterable(zip_longest(*sources.values()))
    return [question for question in turns if question is not None][:limit]


def questions_hash(questions: Sequence[Question]) -> str:
    """sha256 over ids, sources, texts and answers, in order."""
    digest = hashlib.sha256()
    for (id, source, text, _), answer in questions:
        digest.update("\0".join((id, source, text, repr(answer))).encode() + b"\n")
    return digest.hexdigest()


def require_answers(questions: Sequence[Question]) -> None:
    """Raises `DsparkError` naming the first question without an answer."""
    without = next((question for question in questions if question.answer is None), None)
    if without is not None:
        raise DsparkError(
            f"{without.prompt.place}: has no answer, and accuracy needs one in every line",
            hint='add a key "answer", or leave --accuracy out',
        )
