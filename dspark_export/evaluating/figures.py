"""From records of one way to its figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from dspark_export.evaluating.layout import Question
from dspark_export.evaluating.records import Record
from dspark_export.evaluating.schema import Accuracy, Different, Figures, Identity, Position, Ratio
from dspark_export.evaluating.statistics import estimate_geometric_mean, estimate_share

EVERYTHING = "all"
"""The source that stands for all prompts together."""


class Sample:
    """Records of one way, and plain decoding's of the same prompts in the same order."""

    def __init__(self, records: Sequence[Record], plain: Sequence[Record]) -> None:
        self.records, self.plain = list(records), list(plain)
        rounds = [record.verifications for record in self.records]
        self.produced = [float(sum(r.produced for r in each)) for each in rounds]
        self.rounds = [float(len(each)) for each in rounds]
        self._rounds = [r for each in rounds for r in each]

    def of_source(self, source: str) -> Sample:
        """Its part of one source."""
        pairs = [pair for pair in zip(self.records, self.plain, strict=True) if pair[0].source == source]
        return Sample([record for record, _ in pairs], [plain for _, plain in pairs])

    def ratios(self, other: Sequence[Record] | None = None) -> list[float]:
        """Tokens/s over those of `other` (plain decoding), of prompts with a second token both ways."""
        pairs = zip(self.records, self.plain if other is None else other, strict=True)
        rates = [(record.tokens_per_second, base.tokens_per_second) for record, base in pairs]
        return [rate / base for rate, base in rates if rate and base]

    def figures(self, source: str, block_size: int) -> Figures:
        """Everything that does not compare it with another drafter."""
        rates = [record.tokens_per_second for record in self.records if record.tokens_per_second]
        verified = sum(r.proposed for r in self._rounds)
        rejected = verified - sum(r.accepted for r in self._rounds)
        produced = sum(self.produced)
        return Figures(
            source=source,
            prompts=len(self.records),
            tokens=sum(len(record.token_ids) for record in self.records),
            cut=sum(record.stop == "length" for record in self.records),
            rounds=len(self._rounds),
            accepted_length=estimate_share(self.produced, self.rounds),
            positions=[self._position(number) for number in range(block_size)],
            tokens_per_second=statistics.median(rates) if rates else None,
            ratio=self._ratio(),
            first_token_seconds=statistics.median(record.seconds.prefill for record in self.records),
            verified=verified,
            rejected=rejected,
            wasted=rejected / produced if produced else None,
        )

    def identity(self) -> Identity:
        """Greedy output against plain decoding's."""
        parted = [(record.prompt, record.parting) for record in self.records if record.parting is not None]
        differences = [Different(prompt=prompt, **parting.model_dump()) for prompt, parting in parted]
        return Identity(
            prompts=len(self.records),
            identical=len(self.records) - len(differences),
            ties=sum(different.tie for different in differences),
            differences=differences,
        )

    def accuracy(self, questions: Sequence[Question]) -> Accuracy:
        """Right answers; every question has one."""
        pairs = zip(self.records, questions, strict=True)
        right = [answer is not None and answer.matches(record.text) for record, (_, answer) in pairs]
        return Accuracy(correct=sum(right), prompts=len(right))

    def _ratio(self) -> Ratio | None:
        ratios = self.ratios()
        mean = estimate_geometric_mean(ratios)
        if mean is None:
            return None
        low, middle, high = np.percentile(ratios, (25, 50, 75)).tolist()
        return Ratio(prompts=len(ratios), median=middle, low_quartile=low, high_quartile=high, mean=mean)

    def _position(self, number: int) -> Position:
        reached = [r for r in self._rounds if r.proposed > number and r.accepted >= number]
        accepted = sum(r.accepted > number for r in reached)
        share = accepted / len(reached) if reached else None
        return Position(position=number + 1, reached=len(reached), accepted=accepted, acceptance=share)
