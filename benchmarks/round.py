"""Where the time of a round goes, for one request and for eight, side by side for several bundles.

    python benchmarks/round.py BUNDLE... [--context 256] [--turns 5] [--rounds 8] [--profile] [--json]

In every turn each bundle serves the same random prompts: prefill, some rounds that draft and verify whole blocks,
some plain ones, and single verify steps of 1 and 8 tokens. Bundles take turns, and ratios are taken turn by turn
(medians over turns), so that a drifting machine favours none. `--profile` adds the kinds of nodes inside the engines,
from ONNX Runtime's own profiler in sessions of their own.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import track

from dspark_engines import Bundle, DsparkError, GenerationRequest, open_bundle
from dspark_engines.backends import (
    DraftEngine,
    DraftOutput,
    EngineOptions,
    Engines,
    Slot,
    VerifyEngine,
    VerifyOutput,
    get_backend,
)
from dspark_engines.runtime.round import runner as round_runner
from dspark_engines.scheduler import FixedSpec, get_scheduler
from dspark_export.commands.console import print_json
from exit_code import exit_code
from node_profile import profile_engines
from round_report import Sample, show, summary

BACKEND = "onnxruntime"
ROWS = (1, 8)
BLOCK_STEP = 8
"""Tokens of the longer verify step."""


@dataclass(frozen=True)
class Plan:
    """Cached tokens of every request at first, and how often."""

    context: int
    turns: int
    rounds: int
    threads: int


@dataclass
class Clock:
    """Seconds by part of the round, since it was last read."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def read(self) -> dict[str, float]:
        """What was counted, and start again."""
        seconds, self.seconds = dict(self.seconds), defaultdict(float)
        return seconds

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with its time counted as `part`, and what its output says of the engine as the engine's."""

        def clocked(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            output = function(*args, **kwargs)
            elapsed = time.perf_counter() - started
            if isinstance(output, VerifyOutput | DraftOutput):
                self.seconds[part] += output.seconds
                self.seconds["binding"] += elapsed - output.seconds
            else:
                self.seconds[part] += elapsed
            return output

        return clocked


@click.command(context_settings={"show_default": True})
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--context", type=click.IntRange(1), default=256, help="Cached tokens of every request at first.")
@click.option("--turns", type=click.IntRange(1), default=5, help="Runs of every bundle and batch size.")
@click.option("--rounds", type=click.IntRange(2), default=8, help="Rounds a run, drafting ones and as many plain ones.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Engine threads; 0: all cores.")
@click.option("--profile", is_flag=True, help="Also the engines' time by kind of node (slower, in extra sessions).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def main(bundles: tuple[Path, ...], profile: bool, as_json: bool, **settings: Any) -> None:
    """Take a round of BUNDLES apart on this machine."""
    plan = Plan(**settings)
    opened = [open_bundle(path) for path in bundles]
    for bundle in opened:
        check_room(bundle, plan)
    samples = measure(opened, plan)
    names = [str(path) for path in bundles]
    found = summary(samples, names, [bundle.manifest.precision for bundle in opened])
    if profile:
        found["profile"] = profiles(opened, plan)
    if as_json:
        print_json(found)
    else:
        show(found)


def check_room(bundle: Bundle, plan: Plan) -> None:
    """Raises `DsparkError` when the run does not fit into the bundle's context."""
    limits, block = bundle.manifest.limits, bundle.manifest.drafter.block_size
    needed = plan.context + (plan.rounds + 1) * (block + 1) + BLOCK_STEP
    if needed > limits.context_length:
        raise DsparkError(
            f"{bundle.path}: {needed} positions needed, its context holds {limits.context_length}",
            hint="a smaller --context or fewer --rounds",
        )


def batches(bundle: Bundle) -> list[int]:
    """One request, and eight or as many as there are slots."""
    return sorted({min(rows, bundle.manifest.limits.slots) for rows in ROWS})


def measure(bundles: Sequence[Bundle], plan: Plan) -> list[Sample]:
    """Every turn of every bundle and batch size; the first turn warms up and is left out."""
    samples: list[Sample] = []
    with ExitStack() as stack:
        benches = [Bench(index, bundle, stack, plan) for index, bundle in enumerate(bundles)]
        for turn in track(range(plan.turns + 1), "alternating", console=Console(stderr=True)):
            for bench in benches if turn % 2 else benches[::-1]:
                for rows in batches(bench.bundle):
                    sample = bench.sample(rows, turn)
                    samples += [sample] if turn else []
    return samples


class Bench:
    """One bundle's engines behind a clock."""

    def __init__(self, index: int, bundle: Bundle, stack: ExitStack, plan: Plan) -> None:
        self.index, self.bundle, self.plan, self.clock = index, bundle, plan, Clock()
        engines = stack.enter_context(get_backend(BACKEND).open(bundle, EngineOptions(plan.threads)))
        verify: Any = Clocked(engines.verify, "verify engine", self.clock)
        draft: Any = Clocked(engines.draft, "draft engine", self.clock)
        self.engines = Engines(verify, draft)

    def sample(self, rows: int, turn: int) -> Sample:
        """One run of `rows` requests."""
        with clocked_acceptance(self.clock):
            prefill, spec = self._rounds(rows, turn, speculate=True)
            _, plain = self._rounds(rows, turn, speculate=False)
        one, eight = self._steps(turn) if rows == 1 else (0.0, 0.0)
        return Sample(self.index, rows, turn, prefill, spec, plain, one, eight)

    def _rounds(self, rows: int, turn: int, *, speculate: bool) -> tuple[dict[str, float], dict[str, float]]:
        """Parts of the prefill, and of a round in the mean; "total" is everything."""
        runner = round_runner.RoundRunner(self.engines, self.bundle.manifest, get_scheduler(FixedSpec()))
        random, vocabulary = np.random.default_rng([turn, rows]), self.bundle.manifest.target.vocab_size
        room = self.bundle.manifest.limits.context_length
        states = [
            runner.start(GenerationRequest(random.integers(0, vocabulary, self.plan.context).tolist(), room, speculate))
            for _ in range(rows)
        ]

        def read_prompts() -> None:
            while any(not state.result.token_ids for state in states):
                waiting = [state for state in states if not state.result.token_ids]
                runner.advance(waiting)

        def run_rounds() -> None:
            for _ in range(self.plan.rounds):
                runner.advance(states)

        prefill = self._timed(read_prompts)
        runner.advance(states)  # takes in the prompt's features, which is part of reading it
        self.clock.read()
        return prefill, {part: seconds / self.plan.rounds for part, seconds in self._timed(run_rounds).items()}

    def _timed(self, function: Callable[[], None]) -> dict[str, float]:
        self.clock.read()
        started = time.perf_counter()
        function()
        total = time.perf_counter() - started
        return self.clock.read() | {"total": total}

    def _steps(self, turn: int) -> tuple[float, float]:
        """Seconds of a verify step of 1 token and of `BLOCK_STEP`, medians of alternating ones."""
        engine, context = self.engines.verify, self.plan.context
        ids = np.random.default_rng(turn).integers(0, self.bundle.manifest.target.vocab_size, context)
        slot, chunk = engine.new_slot(), self.bundle.manifest.limits.prefill_chunk
        for start in range(0, context, chunk):
            self._step(slot, ids[start : start + chunk], start, 1)
        times: dict[int, list[float]] = {1: [], BLOCK_STEP: []}
        for _ in range(self.plan.rounds):
            for count, measured in times.items():
                measured.append(self._step(slot, ids[:1].repeat(count), context, count))
        self.clock.read()
        return float(np.median(times[1])), float(np.median(times[BLOCK_STEP]))

    def _step(self, slot: Slot, ids: Any, used: int, logits: int) -> float:
        count = len(ids)
        rows = np.arange(count - logits, count)
        return self.engines.verify.step([slot], ids, np.array([count]), np.array([used]), rows).seconds


class Clocked:
    """An engine whose steps are counted; everything else is its own."""

    def __init__(self, engine: VerifyEngine | DraftEngine, part: str, clock: Clock) -> None:
        self._engine, self.step = engine, clock.around(part, engine.step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@contextmanager
def clocked_acceptance(clock: Clock) -> Iterator[None]:
    """Accepting and drawing counted as a part of its own, while the `with` block lasts."""
    module: Any = round_runner
    accept = module.accept
    module.accept = clock.around("accepting", accept)
    try:
        yield
    finally:
        module.accept = accept


def profiles(bundles: Sequence[Bundle], plan: Plan) -> list[dict[str, Any]]:
    """Both engines of every bundle and batch size by kind of node."""
    cells = [(bundle, rows) for bundle in bundles for rows in batches(bundle)]
    return [
        {"bundle": str(bundle.path), "rows": rows, "engines": profile_engines(bundle, rows, plan.context, plan.threads)}
        for bundle, rows in track(cells, "profiling", console=Console(stderr=True))
    ]


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a user's errors become a line and a hint."""
    return exit_code(main, arguments)


if __name__ == "__main__":
    sys.exit(run())
