"""From records to the evaluation: figures, comparisons, and what they show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from dspark_calibration.report import Measured
from dspark_export.evaluating.caveats import caveats
from dspark_export.evaluating.conditions import Conditions
from dspark_export.evaluating.figures import EVERYTHING, Sample
from dspark_export.evaluating.findings import (
    identity_finding,
    is_shown,
    is_speed_shown,
    length_finding,
    speed_finding,
    verdict,
)
from dspark_export.evaluating.footing import target_hash
from dspark_export.evaluating.layout import Question
from dspark_export.evaluating.plan import EvalPlan
from dspark_export.evaluating.records import Record, RecordStore
from dspark_export.evaluating.schema import Evaluation, ModeFigures, Pair, Setting, WayFigures, WayInfo
from dspark_export.evaluating.statistics import estimate_difference, estimate_geometric_mean
from dspark_export.evaluating.ways import CONTROL, PLAIN, Mode, Way

Samples = dict[str, Sample]
"""By the names of the ways."""


def summarise(
    store: RecordStore, ways: Sequence[Way], questions: Sequence[Question], plan: EvalPlan, *, accuracy: bool
) -> Evaluation:
    """The evaluation of `questions`, all of whose turns are in `store`."""
    modes = [_mode(store, ways, questions, mode, accuracy) for mode in plan.modes]
    greedy = next(mode for mode in modes if mode.mode == "greedy")
    return Evaluation(
        verdict=" ".join(mode.verdict for mode in modes),
        passed=all(way.identity.passed for way in greedy.ways if way.identity is not None),
        setting=_setting(store.conditions, ways, questions),
        ways=[_info(way, conditions.plan) for way, conditions in zip(ways, store.conditions.ways, strict=True)],
        modes=modes,
        caveats=list(caveats(modes, ways, store.conditions, accuracy=accuracy)),
    )


def _mode(
    store: RecordStore, ways: Sequence[Way], questions: Sequence[Question], mode: Mode, accuracy: bool
) -> ModeFigures:
    records = {way.name: _records(store, way, questions, mode) for way in ways}
    samples = {name: Sample(found, records[PLAIN]) for name, found in records.items()}
    figures = [_way(samples[way.name], way, questions, mode, accuracy) for way in ways]
    drafters = [way.name for way in ways if way.speculates]
    control = estimate_geometric_mean(samples[CONTROL].ratios())
    pairs = [_pair(samples, *names, control) for names in combinations(drafters, 2)]
    found = list(_against_plain(figures, drafters, control, mode))
    return ModeFigures(
        mode=mode,
        verdict=verdict(mode, [figure for figure in figures if figure.way in drafters], pairs, found),
        prompts=len(questions),
        ways=figures,
        pairs=pairs,
        findings=found,
    )


def _records(store: RecordStore, way: Way, questions: Sequence[Question], mode: Mode) -> list[Record]:
    found = [store.find(question.prompt.id, way.name, mode) for question in questions]
    return [record for record in found if record is not None]


def _way(sample: Sample, way: Way, questions: Sequence[Question], mode: Mode, accuracy: bool) -> WayFigures:
    sources, block = dict.fromkeys(question.prompt.source for question in questions), way.block_size
    return WayFigures(
        way=way.name,
        overall=sample.figures(EVERYTHING, block),
        sources=[sample.of_source(source).figures(source, block) for source in sources],
        identity=sample.identity() if mode == "greedy" and way.name != PLAIN else None,
        accuracy=sample.accuracy(questions) if accuracy else None,
    )


def _pair(samples: Samples, first: str, second: str, control: Measured | None) -> Pair:
    one, other = samples[first], samples[second]
    length = estimate_difference((one.produced, one.rounds), (other.produced, other.rounds))
    ratios = one.ratios(other.records)
    speed, prompts = estimate_geometric_mean(ratios), len(one.records)
    return Pair(
        first=first,
        second=second,
        prompts=prompts,
        accepted_length=length,
        speed=speed,
        accepted_shown=is_shown(length, prompts),
        speed_shown=is_speed_shown(speed, len(ratios), control),
        findings=[
            length_finding(first, second, length, prompts),
            speed_finding(first, second, speed, len(ratios), control),
        ],
    )


def _against_plain(
    figures: Sequence[WayFigures], drafters: Sequence[str], control: Measured | None, mode: Mode
) -> Iterator[str]:
    chosen = [figure for figure in figures if figure.way in drafters]
    for figure in chosen:
        ratio = figure.overall.ratio
        counted = ratio.prompts if ratio else figure.overall.prompts
        yield speed_finding(figure.way, PLAIN, ratio.mean if ratio else None, counted, control)
    if mode == "greedy":
        yield identity_finding([figure for figure in figures if figure.identity is not None])


def _info(way: Way, plan: str) -> WayInfo:
    drafter = way.bundle.manifest.drafter
    return WayInfo(
        name=way.name,
        role=way.role,
        bundle=way.bundle.path.resolve().name,
        identity=way.identity,
        drafter=way.drafter,
        checkpoint=drafter.name if way.speculates else "",
        method=drafter.method if way.speculates else "none",
        block_size=way.block_size,
        plan=plan,
    )


def _setting(conditions: Conditions, ways: Sequence[Way], questions: Sequence[Question]) -> Setting:
    manifest = ways[0].bundle.manifest
    shared = ("prompts_sha256", "max_new_tokens", "temperature", "top_k", "top_p", "min_p", "seed", "scheduler")
    return Setting(
        target=manifest.target.name,
        target_sha256=target_hash(manifest.target),
        precision=manifest.precision,
        backend=f"{conditions.backend} {conditions.backend_version}",
        machine=f"{conditions.cpu}, {conditions.cores} cores, {conditions.threads} engine threads",
        prompts=len(questions),
        sources=dict(Counter(question.prompt.source for question in questions)),
        **conditions.model_dump(include=set(shared)),
    )
