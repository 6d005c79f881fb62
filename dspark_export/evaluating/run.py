"""All ways take turns on every prompt, on the same engines, one request at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from dspark_engines import GenerationRequest, GenerationResult, Runtime
from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.errors import BackendError
from dspark_engines.measured import resolve_engines
from dspark_engines.progress import Reporter
from dspark_engines.text import TextCodec
from dspark_export.checks.identity import first_difference, top_gap
from dspark_export.checks.tolerances import TIE_GAP
from dspark_export.evaluating.layout import Question
from dspark_export.evaluating.plan import EvalPlan
from dspark_export.evaluating.records import Parting, Record, RecordStore, Seconds
from dspark_export.evaluating.ways import PLAIN, Mode, Way
from dspark_export.prompts import encode_prompts

WARM_UP = 8
"""Tokens of a first request in each way, of which nothing is kept."""


class Turn(NamedTuple):
    """One prompt in one mode, decoded in all ways."""

    number: int
    question: Question
    prompt_ids: list[int]
    mode: Mode


def evaluate(
    ways: Sequence[Way], questions: Sequence[Question], plan: EvalPlan, store: RecordStore, reporter: Reporter
) -> None:
    """Run the turns of `questions` that `store` does not have whole yet; each is kept as soon as it is over.

    A turn is all ways on one prompt, the order changing from turn to turn, so that a machine whose speed drifts favours
    none. Raises `DsparkError`, for a drafter that fails say.
    """
    turns = _turns(ways[0], questions, plan)
    todo = [turn for turn in turns if any(store.find(turn.question.prompt.id, w.name, turn.mode) is None for w in ways)]
    step = reporter.step("taking turns")
    step(len(turns) - len(todo), len(turns))
    if not todo:
        return
    with ExitStack() as stack:
        runs = Runs(ways, plan, stack)
        runs.warm_up(todo[0].prompt_ids)
        for done, turn in enumerate(todo, len(turns) - len(todo) + 1):
            store.add(runs.take(turn))
            step(done, len(turns))


def check_prompts(way: Way, questions: Sequence[Question]) -> None:
    """Raises `RequestError` naming the first prompt that the bundles cannot serve."""
    encode_prompts(way.bundle, [question.prompt for question in questions])


def _turns(way: Way, questions: Sequence[Question], plan: EvalPlan) -> list[Turn]:
    texts = encode_prompts(way.bundle, [question.prompt for question in questions])
    numbered = list(enumerate(zip(questions, texts, strict=True)))
    return [Turn(number, question, ids, mode) for number, (question, ids) in numbered for mode in plan.modes]


class Runs:
    """A runtime for each way. Those of one bundle share the verify engine, and each drafter's engine is opened once."""

    def __init__(self, ways: Sequence[Way], plan: EvalPlan, stack: ExitStack) -> None:
        self._ways, self._plan, self._stack = list(ways), plan, stack
        self._engines: dict[int, dict[str, Engines]] = {}
        self._codec = TextCodec(ways[0].bundle)
        self._runtimes = {way.name: self._runtime(way) for way in ways}

    def warm_up(self, prompt_ids: Sequence[int]) -> None:
        """A short request in every way."""
        for way in self._ways:
            self._run(way, GenerationRequest(prompt_ids, WARM_UP), "the warm-up")

    def take(self, turn: Turn) -> list[Record]:
        """The records of one turn, in the order of the ways."""
        request = self._plan.request(turn.prompt_ids, turn.mode, turn.number)
        results: dict[str, GenerationResult] = {}
        for way in _rotated(self._ways, turn.number):
            results[way.name] = self._run(way, request, f"prompt {turn.question.prompt.id}")
        return [self._record(turn, way, results[way.name], results[PLAIN]) for way in self._ways]

    def _runtime(self, way: Way) -> Runtime:
        runtime = Runtime(way.bundle, self._plan.options(way), engines=self._open(way))
        return self._stack.enter_context(runtime)

    def _open(self, way: Way) -> Engines:
        """Engines of the way's bundle and drafter: the first of a bundle opens both, further drafters their own."""
        opened = self._engines.setdefault(way.place, {})
        drafter = way.bundle.manifest.drafter.called
        if drafter not in opened:
            options = resolve_engines(way.bundle, self._plan.backend, EngineOptions(self._plan.threads))
            verify = next((engines.verify for engines in opened.values()), None)
            opening = get_backend(self._plan.backend).open(way.bundle, options, verify=verify)
            opened[drafter] = self._stack.enter_context(opening)
        return opened[drafter]

    def _run(self, way: Way, request: GenerationRequest, what: str) -> GenerationResult:
        runtime = self._runtimes[way.name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a drafter that fails is an error here, see below
            (result,) = runtime.generate([request])
        failure = next((health.last_failure for health in runtime.draft_health if health.last_failure), "")
        if failure:
            raise BackendError(
                f"drafter {way.name} failed on {what}: {failure}", hint="check the bundle: dspark-export check"
            )
        return result

    def _record(self, turn: Turn, way: Way, result: GenerationResult, plain: GenerationResult) -> Record:
        return Record(
            prompt=turn.question.prompt.id,
            source=turn.question.prompt.source,
            way=way.name,
            mode=turn.mode,
            token_ids=result.token_ids,
            text=self._codec.tokenizer.decode(result.token_ids),
            stop=result.stop,
            rounds=[(each.proposed, each.accepted, each.produced) for each in result.rounds],
            seconds=Seconds(**vars(result.seconds)),
            parting=self._parting(turn, plain.token_ids, result.token_ids) if turn.mode == "greedy" else None,
        )

    def _parting(self, turn: Turn, plain: list[int], other: list[int]) -> Parting | None:
        position = first_difference(plain, other)
        if position is None:
            return None
        bundle = self._ways[0].bundle
        engines = self._engines[0][bundle.manifest.drafter.called]
        gap = top_gap(engines, bundle.manifest, [*turn.prompt_ids, *plain[:position]])
        return Parting(
            position=position,
            plain=(plain[position : position + 1] or [-1])[0],
            speculative=(other[position : position + 1] or [-1])[0],
            gap=gap if math.isfinite(gap) else None,
            tie=gap <= TIE_GAP,
        )


def _rotated(ways: Sequence[Way], number: int) -> list[Way]:
    """Another begins each time, and every second time round the order is reversed."""
    count = len(ways)
    order = [ways[(number + place) % count] for place in range(count)]
    return order[::-1] if number // count % 2 else order
