"""What a layout of prompt sets is: the keys of a line, and what they come to."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from dspark_export.evaluating.answers import Answer
from dspark_export.prompts import Prompt, make_prompt


class Question(NamedTuple):
    """A prompt and, where its line gives one, the answer that is expected."""

    prompt: Prompt
    answer: Answer | None = None


class Layout(BaseModel):
    """One line of a prompt set in one layout. Keys that it does not know are left alone."""

    model_config = ConfigDict(frozen=True)

    title: ClassVar[str]
    """The benchmark: the source of its prompts, unless a line says another."""
    keys: ClassVar[str]
    """Its keys in words, for messages."""

    id: str | int | None = None
    source: str | None = None

    @classmethod
    @abstractmethod
    def fits(cls, fields: Mapping[str, Any]) -> bool:
        """Whether a line with these keys is of this layout."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The prompt."""

    @property
    def number(self) -> str | int | None:
        """What the benchmark calls the line; None: it is known by its place in the file."""
        return None

    @property
    def group(self) -> str:
        """The source of a line that does not say one."""
        return self.title

    @property
    def expected(self) -> Answer | None:
        """The answer, where the line gives one."""
        return None

    def question(self, place: str, line: int) -> Question:
        """What was read at `place`; its id is BENCHMARK/NUMBER unless the line has one."""
        number = str(line if self.number is None else self.number)
        id = number if "/" in number else f"{self.title}/{number}"
        prompt = make_prompt(place, id if self.id is None else str(self.id), self.source or self.group, self.text)
        return Question(prompt, self.expected)
