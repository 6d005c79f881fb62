"""Engines without a model: the next token is a fixed function of the text, and every call is checked.

The target's slot holds the tokens that were written to it, and its features say where and what a token is, so
the drafter sees whether it got the right rows, each once, in order. It then drafts as well as it is told to.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dspark_engines.backends import DraftEngine, DraftOutput, Engines, VerifyEngine, VerifyOutput
from dspark_engines.bundle import Limits, Manifest
from dspark_engines.bundle.manifest import DrafterInfo, TargetInfo

VOCAB, EOS = 31, 2
STEP_SECONDS = 0.25


@dataclass(frozen=True)
class Language:
    """The one text behind every prefix; `eos_at` is the length behind which it ends."""

    eos_at: int | None = None

    def next(self, text: Sequence[int]) -> int:
        """The target's greedy choice behind `text`; an end of sequence nowhere but at `eos_at`."""
        return EOS if len(text) == self.eos_at else 3 + zlib.crc32(bytes(text)) % (VOCAB - 3)

    def continuation(self, prompt: Sequence[int], count: int, context: int) -> tuple[list[int], str]:
        """What a request has to come to, and why it stops."""
        text = list(prompt)
        while True:
            text.append(self.next(text))
            produced = len(text) - len(prompt)
            if text[-1] == EOS:
                return text[len(prompt) :], "eos"
            if produced == count or len(text) == context:
                return text[len(prompt) :], "length" if produced == count else "context"


@dataclass(eq=False)
class FakeSlot:
    tokens: list[int] = field(default_factory=list)


class _Fake:
    """What both engines share: slots that are counted, outputs that do not outlive the next step."""

    max_rows = 4

    def __init__(self) -> None:
        self.slots: list[FakeSlot] = []
        self._lent: list[np.ndarray] = []

    def new_slot(self) -> FakeSlot:
        self.slots.append(FakeSlot())
        return self.slots[-1]

    def lend(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """The engine owns its outputs: those of the last step become garbage now."""
        for array in self._lent:
            array.fill(np.nan if array.dtype == np.float32 else -1)
        self._lent = list(arrays)
        return arrays

    def check_rows(self, slots: Sequence[FakeSlot], *per_row: np.ndarray) -> None:
        assert 1 <= len(slots) <= self.max_rows
        assert len({id(slot) for slot in slots}) == len(slots)
        assert all(slot in self.slots for slot in slots)
        assert all(array.shape[:1] == (len(slots),) for array in per_row)


class FakeVerifyEngine(_Fake, VerifyEngine):
    """`calls` are the tokens of every row of every step, `logit_rows` how many of them asked for logits."""

    def __init__(self, language: Language, context_length: int) -> None:
        super().__init__()
        self.language, self.context_length = language, context_length
        self.calls: list[list[list[int]]] = []
        self.logit_rows: list[int] = []

    def step(
        self, slots: Sequence[Any], token_ids: np.ndarray, row_lengths: np.ndarray, used: np.ndarray, logit_rows: Any
    ) -> VerifyOutput:
        self.check_rows(slots, row_lengths, used)
        assert row_lengths.min() >= 1
        assert row_lengths.sum() == len(token_ids)
        rows = [part.tolist() for part in np.split(token_ids, np.cumsum(row_lengths)[:-1])]
        choices, features = [], []
        for slot, start, tokens in zip(slots, used.tolist(), rows, strict=True):
            assert 0 <= start <= len(slot.tokens), "the cache was never written up to here"
            slot.tokens[start:] = tokens  # what lay behind `used` is rolled back
            assert len(slot.tokens) <= self.context_length
            ends = range(start + 1, len(slot.tokens) + 1)
            choices += [self.language.next(slot.tokens[:end]) for end in ends]
            features += [(end - 1, slot.tokens[end - 1]) for end in ends]
        self.calls.append(rows)
        self.logit_rows.append(len(logit_rows))
        logits = np.eye(VOCAB, dtype=np.float32)[np.array(choices)[logit_rows]]
        return VerifyOutput(*self.lend(logits, np.array(features, np.float32)), STEP_SECONDS)


class FakeDraftEngine(_Fake, DraftEngine):
    """Round k's first `pattern[k]` drafts are right (the pattern repeats), the next one is wrong.

    Those behind a wrong one are what the target would say to that wrong text: nothing but the prefix counts.
    """

    def __init__(self, language: Language, block_size: int, pattern: Iterable[int]) -> None:
        super().__init__()
        self.language, self.block, self.right = language, block_size, itertools.cycle(pattern)
        self.steps = 0

    def step(
        self,
        slots: Sequence[Any],
        features: np.ndarray,
        feature_lengths: np.ndarray,
        used: np.ndarray,
        anchor_ids: np.ndarray,
        temperature: np.ndarray,
        uniforms: np.ndarray,
        next_ids: np.ndarray,
    ) -> DraftOutput:
        self.check_rows(slots, feature_lengths, used, anchor_ids, temperature, uniforms)
        assert uniforms.shape == (len(slots), self.block)
        assert not temperature.any()
        ends = np.cumsum(feature_lengths)[:-1]
        parts, texts, drafts = np.split(features.copy(), ends), np.split(next_ids, ends), []
        rows = zip(slots, used.tolist(), parts, texts, anchor_ids.tolist(), strict=True)
        for slot, start, part, following, anchor in rows:
            assert start == len(slot.tokens), "features skipped, or handed over twice"
            assert part[:, 0].tolist() == list(range(start, start + len(part))), "features of other positions"
            slot.tokens += part[:, 1].astype(int).tolist()
            assert anchor == self.language.next(slot.tokens), "the anchor does not stand behind these features"
            assert following[:-1].tolist() == slot.tokens[start + 1 :], "the tokens behind other features"
            assert following[-1] == anchor, "the last of them is not the anchor"
            drafts.append(self._block([*slot.tokens, anchor], next(self.right)))
        self.steps += 1
        ids = np.array(drafts)
        confidence = np.full(ids.shape, np.inf, np.float32)
        logits = np.full((*ids.shape, VOCAB), np.nan, np.float32)  # greedy rounds have no use for them
        return DraftOutput(*self.lend(ids, confidence, logits), STEP_SECONDS)

    def _block(self, text: list[int], right: int) -> list[int]:
        for j in range(self.block):
            choice = self.language.next(text)
            text.append(choice if j != right else (choice + 1) % VOCAB)
        return text[-self.block :]


def fake_manifest(*, block: int, context: int, chunk: int) -> Manifest:
    """As much of a manifest as the runtime reads."""
    return Manifest.model_construct(
        limits=Limits(context_length=context, prefill_chunk=chunk, slots=1),
        target=TargetInfo.model_construct(vocab_size=VOCAB, eos_token_ids=[EOS]),
        drafter=DrafterInfo.model_construct(block_size=block),
    )


def fake_engines(language: Language, *, block: int, context: int, pattern: Iterable[int]) -> Engines:
    """Both engines, speaking one language."""
    return Engines(FakeVerifyEngine(language, context), FakeDraftEngine(language, block, pattern))
