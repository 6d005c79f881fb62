"""One request's text, and where each of its n-grams occurred before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

WITNESSES = 4
"""Earlier occurrences that are asked whether they went on the same way."""
NOWHERE = -1


@dataclass(frozen=True)
class LookupSpec:
    """n-grams of `longest` down to `shortest` tokens are looked for, longer ones first.

    That order is that of vLLM (`prompt_lookup_max`, `prompt_lookup_min`) and of transformers
    (`PromptLookupCandidateGenerator`, `max_matching_ngram_size`, down to 1). Of several occurrences both take the
    earliest; here it is the most recent, and what it proposes does not end where the text does.
    """

    longest: int = 4
    shortest: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(f"n-grams of {self.longest} down to {self.shortest} tokens")


class Proposal(NamedTuple):
    """`tokens`, what may follow, and why: the n-gram of `matched` tokens that was found.

    `agreed` says for each of `tokens` how many of up to 4 further occurrences went on like this up to there, less
    those that did not.
    """

    tokens: list[int]
    matched: int
    agreed: list[int]


NOTHING = Proposal([], 0, [])


class TextIndex:
    """A text that grows at its end and is rolled back there, in time that does not depend on its length."""

    def __init__(self, spec: LookupSpec) -> None:
        self._text: list[int] = []
        self._grams = [_Grams(size) for size in range(spec.longest, spec.shortest - 1, -1)]

    def __len__(self) -> int:
        return len(self._text)

    def extend(self, tokens: Iterable[int]) -> None:
        """Add tokens at the end."""
        for token in tokens:
            self._text.append(token)
            for grams in self._grams:
                grams.push(self._text)

    def truncate(self, length: int) -> None:
        """Roll back to the first `length` tokens."""
        while len(self._text) > length:
            for grams in self._grams:
                grams.pop(self._text)
            self._text.pop()

    def propose(self, count: int) -> Proposal:
        """The `count` tokens that followed the longest n-gram of the end that occurred before; or `NOTHING`.

        A continuation that comes to the end of the text goes on with what it has proposed itself, as in periodic text.
        """
        for grams in self._grams:
            ends = list(islice(grams.occurrences(), 1 + WITNESSES))
            if ends:
                tokens, *others = [self._following(end, count) for end in ends]
                return Proposal(tokens, grams.size, _agreement(tokens, others))
        return NOTHING

    def _following(self, end: int, count: int) -> list[int]:
        """What came behind position `end`, again and again where the text ends before `count` tokens are there."""
        tokens = self._text[end + 1 : end + 1 + count]
        period = len(tokens)
        return [tokens[index % period] for index in range(count)]


class _Grams:
    """Where the n-grams of one size ended: each one's last position, and behind it a chain of the earlier ones.

    While the text is shorter than `size`, all of it is entered: tuples that no n-gram is equal to.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._last: dict[tuple[int, ...], int] = {}
        self._before: list[int] = []

    def push(self, text: list[int]) -> None:
        """`text` has a token more."""
        gram = tuple(text[-self.size :])
        self._before.append(self._last.get(gram, NOWHERE))
        self._last[gram] = len(text) - 1

    def pop(self, text: list[int]) -> None:
        """`text` is about to lose its last token."""
        gram, before = tuple(text[-self.size :]), self._before.pop()
        if before == NOWHERE:
            del self._last[gram]
        else:
            self._last[gram] = before

    def occurrences(self) -> Iterator[int]:
        """Where the n-gram at the end of the text ended before, most recent first."""
        end = len(self._before) - 1
        while end >= 0 and (end := self._before[end]) != NOWHERE:
            yield end


def _agreement(tokens: list[int], others: list[list[int]]) -> list[int]:
    """For each prefix of `tokens`: how many of `others` begin with it, less those that do not."""
    agreed = [-len(others)] * len(tokens)
    for other in others:
        for index, (token, theirs) in enumerate(zip(tokens, other, strict=True)):
            if token != theirs:
                break
            agreed[index] += 2
    return agreed
