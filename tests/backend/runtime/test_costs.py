"""The cost table: measured, stored, read back, refused elsewhere; what it says about break-even."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from dspark_engines import Runtime, RuntimeOptions
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Bundle, Limits, open_bundle
from dspark_engines.measured import (
    COST_TABLE,
    CostTable,
    Noise,
    Timing,
    break_even,
    is_flat,
    load_cost_table,
    noise_of,
    save_cost_table,
    take_fingerprint,
)
from dspark_engines.profiling import ProfilePlan, measure
from dspark_engines.profiling.measure import token_counts
from dspark_engines.runtime.serving.costs import CurrentCosts
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.commands.main import main

OPTIONS = EngineOptions(threads=1)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """A copy of the tiny bundle that a test may write to."""
    return open_bundle(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")))


def table(bundle: Bundle, seconds: dict[int, float], draft: float = 0.5, overhead: float = 0.1) -> CostTable:
    """One row, one context, verify seconds by tokens."""
    rest = {"rows": 1, "context": 8, "low": 1.0, "high": 1.0, "samples": 3}
    return CostTable(
        fingerprint=take_fingerprint(bundle, "onnxruntime", OPTIONS),
        verify=[Timing(tokens=tokens, seconds=value, **rest) for tokens, value in seconds.items()],
        draft=[Timing(tokens=5, seconds=draft, **rest)],
        overhead_seconds=overhead,
    )


def test_measured_table_covers_what_was_asked_for(bundle: Bundle) -> None:
    here, told = take_fingerprint(bundle, "onnxruntime", OPTIONS), []
    with get_backend("onnxruntime").open(bundle, OPTIONS) as engines:
        plan = ProfilePlan(rows=[1], contexts=[8, 40], samples=3, seconds=0)
        measured = measure(bundle, engines, plan, here, lambda done, total: told.append((done, total)))
    assert {(t.context, t.tokens) for t in measured.verify} == {(c, n) for c in (8, 40) for n in range(1, 7)}
    assert all(t.low <= t.seconds <= t.high and t.samples == 3 for t in measured.verify + measured.draft)
    assert told == sorted(told)
    assert {total for _, total in told} == {told[-1][0]}
    assert len({done for done, _ in told}) == 6  # every turn moves the bar
    save_cost_table(measured, bundle)
    assert load_cost_table(bundle, here) == measured


def test_beside_another_cohort_that_is_at_work_all_the_time(bundle: Bundle) -> None:
    here, plan = take_fingerprint(bundle, "onnxruntime", OPTIONS), ProfilePlan([1], [8], samples=3, seconds=0)
    backend, steps = get_backend("onnxruntime"), 0

    def counted(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        return verify(*args)

    with backend.open(bundle, OPTIONS) as mine, backend.open(bundle, OPTIONS) as other:
        verify, other.verify.step = other.verify.step, counted  # type: ignore[method-assign]
        shared = measure(bundle, mine, plan, here, lambda done, total: None, other)
    assert steps > 1
    assert {t.tokens for t in shared.verify} == set(range(1, 7))
    save_cost_table(table(bundle, {1: 1.0, 6: 2.0}).model_copy(update={"shared": shared}), bundle)
    read = load_cost_table(bundle, here)
    assert read is not None
    assert read.shared == shared


def test_a_company_that_fails_fails_the_measurement(bundle: Bundle) -> None:
    here, plan = take_fingerprint(bundle, "onnxruntime", OPTIONS), ProfilePlan([1], [8], samples=3, seconds=0)
    backend = get_backend("onnxruntime")
    with backend.open(bundle, OPTIONS) as mine, backend.open(bundle, OPTIONS) as other:
        bench_fills = iter([True])

        def failing(*args: Any) -> Any:
            if next(bench_fills, False):
                return verify(*args)
            raise MemoryError

        verify, other.verify.step = other.verify.step, failing  # type: ignore[method-assign]
        with pytest.raises(MemoryError):
            measure(bundle, mine, plan, here, lambda done, total: None, other)


@pytest.mark.parametrize("exclusive", [True, False])
def test_current_costs_are_the_shared_ones_while_another_cohort_runs(bundle: Bundle, exclusive: bool) -> None:
    cheap, dear = table(bundle, {1: 1.0, 6: 2.0}, draft=0.5), table(bundle, {1: 3.0, 6: 9.0}, draft=4.0, overhead=0.3)
    costs = CurrentCosts(cheap.model_copy(update={"shared": dear}), lambda: exclusive)
    expected = cheap if exclusive else dear
    assert costs.step_cost(1, 8).points == expected.step_cost(1, 8).points
    assert costs.draft_seconds(1, 8) == expected.draft_seconds(1, 8)
    assert costs.overhead_seconds == expected.overhead_seconds
    assert costs.reading_seconds == expected.reading_seconds
    assert CurrentCosts(cheap, lambda: exclusive).draft_seconds(1, 8) == 0.5, "without such a table its own"


@pytest.mark.parametrize(
    ("rows", "block", "expected"),
    [
        (1, 0, [1]),
        (1, 7, [1, 2, 3, 4, 5, 6, 7, 8]),
        (2, 5, [2, 3, 4, 5, 6, 8, 9, 10, 12]),
        (3, 5, [3, 4, 5, 6, 8, 9, 12, 15, 16, 17, 18]),
        (8, 7, [8, 9, 16, 17, 24, 32, 33, 40, 48, 56, 64]),
    ],
)
def test_there_is_a_point_before_and_one_behind_every_step(rows: int, block: int, expected: list[int]) -> None:
    assert token_counts(rows, block) == expected


def test_uneven_steps_give_every_row_its_share(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Sizes between whole lengths run on engines of several rows, and stand in the table."""
    limits = Limits(context_length=96, prefill_chunk=16, slots=2)
    build_bundle(BuildPlan(*tiny_pair, tmp_path / "bundle", "onnxruntime", limits), Silent())
    pair, seen = open_bundle(tmp_path / "bundle"), set[tuple[int, ...]]()
    with get_backend("onnxruntime").open(pair, OPTIONS) as engines:
        step = engines.verify.step

        def watch(slots: Any, ids: Any, lengths: Any, used: Any, logits: Any) -> Any:
            seen.add((len(ids), *lengths.tolist()))
            return step(slots, ids, lengths, used, logits)

        engines.verify.step = watch  # type: ignore[method-assign]
        plan = ProfilePlan(rows=[2], contexts=[8], samples=3, seconds=0)
        here = take_fingerprint(pair, "onnxruntime", OPTIONS)
        measured = measure(pair, engines, plan, here, lambda done, total: None)
    assert [t.tokens for t in measured.verify] == token_counts(2, 5)
    assert {(3, 2, 1), (9, 5, 4), (12, 6, 6)} <= seen
    assert {entry.length for entry in break_even(measured)} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(("turn", "expected"), [(100.0, 7), (1.0, 8), (0.1, 80), (1e-6, 101)])
def test_short_steps_are_timed_more_often(turn: float, expected: int) -> None:
    assert ProfilePlan([1], [8]).turns(turn) == expected


def noisy(bundle: Bundle, spread: float, times: list[float], samples: int = 25) -> Noise:
    """The noise of a table whose steps scatter by `spread` of their time."""
    made = table(bundle, dict(enumerate(times, 1)))
    timings = [
        t.model_copy(
            update={"low": t.seconds * (1 - spread / 2), "high": t.seconds * (1 + spread / 2), "samples": samples}
        )
        for t in made.verify
    ]
    (entry,) = noise_of(made.model_copy(update={"verify": timings}))
    return entry


def test_noise_is_held_against_the_price_of_a_draft_token(bundle: Bundle) -> None:
    quiet = noisy(bundle, 0.1, [1.0, 1.05, 1.2])
    assert (quiet.rows, quiet.context, quiet.drowns) == (1, 8, False)
    assert quiet[2:] == pytest.approx((0.1, 0.0186, 0.1))
    loud = noisy(bundle, 0.8, [1.0, 1.05, 1.2])
    assert loud.drowns
    assert not noisy(bundle, 0.8, [1.0, 1.05, 1.2], loud.samples_needed(25)).drowns


def test_a_table_that_looks_flat_must_be_known_to_be(bundle: Bundle) -> None:
    assert not noisy(bundle, 0.01, [1.0, 1.0, 1.0]).drowns
    assert noisy(bundle, 0.5, [1.0, 1.0, 1.0]).drowns
    assert noisy(bundle, 0.5, [1.0, 0.9, 0.8]).difference == 0


def test_a_step_is_charged_by_the_next_bucket_and_the_nearest_context(bundle: Bundle) -> None:
    rest = {"low": 1.0, "high": 1.0, "samples": 3}
    points = [
        Timing(rows=rows, context=context, tokens=rows, seconds=rows + context / 1000, **rest)
        for rows in (1, 4)
        for context in (10, 100)
    ]
    made = table(bundle, {1: 1.0}).model_copy(update={"verify": points, "draft": points})
    assert made.step_cost(3, 90).points == [(4, 4.1)]
    assert made.step_cost(1, 20).points == [(1, 1.01)]
    assert made.step_cost(9, 10**6).points == [(4, 4.1)]  # beyond what was measured: the largest
    assert made.step_cost(3, 90).fixed_seconds == pytest.approx(4.1 + 0.1)


def test_break_even_is_the_price_of_a_round_in_plain_steps(bundle: Bundle) -> None:
    entries = {e.length: e for e in break_even(table(bundle, {1: 1.0, 2: 1.2, 6: 2.0}))}
    assert set(entries) == {1, 5}
    assert entries[1].accepted_length == pytest.approx((1.2 + 0.5 + 0.1) / (1.0 + 0.1))
    assert entries[5].accepted_length == pytest.approx((2.0 + 0.5 + 0.1) / (1.0 + 0.1))
    assert entries[5].best_gain == pytest.approx(6 / entries[5].accepted_length)


def test_flat_tables_are_called_flat(bundle: Bundle) -> None:
    assert is_flat(table(bundle, {1: 1.0, 8: 1.01}))
    assert not is_flat(table(bundle, {1: 1.0, 8: 2.0}))


@pytest.mark.parametrize("change", ["cpu", "cores", "threads", "backend_version", "engines"])
def test_a_table_from_elsewhere_is_ignored_with_a_warning(bundle: Bundle, change: str) -> None:
    save_cost_table(table(bundle, {1: 1.0}), bundle)
    here = take_fingerprint(bundle, "onnxruntime", OPTIONS)
    other = {"engines": {}, "cores": 10**6, "threads": 10**6}.get(change, "another")
    with pytest.warns(RuntimeWarning, match=f"measured elsewhere.*{change}.*dspark-export profile"):
        assert load_cost_table(bundle, here.model_copy(update={change: other})) is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "not JSON: Expecting value"),
        ("[]", "Input should be a valid dictionary"),
        ("{}", "missing key 'fingerprint'"),
        ('{"schema_version": 99}', r"schema_version: Input should be 1 \(found 99\)"),
    ],
)
def test_a_damaged_table_is_ignored_with_a_warning(bundle: Bundle, content: str, problem: str) -> None:
    bundle.file("calibration").mkdir()
    bundle.file(COST_TABLE).write_text(content)
    with pytest.warns(RuntimeWarning, match=rf"is not a cost table \({problem}.*\): ignored"):
        assert load_cost_table(bundle, take_fingerprint(bundle, "onnxruntime", OPTIONS)) is None


def test_without_a_table_whole_blocks_are_verified(bundle: Bundle) -> None:
    from dspark_engines import GenerationRequest

    options = RuntimeOptions(engines=OPTIONS, scheduler="algorithm1")
    with pytest.warns(RuntimeWarning, match="no cost table"), Runtime(bundle, options) as runtime:
        (result,) = runtime.generate([GenerationRequest([5, 6, 7], 20)])
    assert max(r.proposed for r in result.rounds) == bundle.manifest.drafter.block_size


def test_profile_command_writes_the_table_and_says_what_follows(bundle: Bundle, capsys) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            main(
                [
                    "profile",
                    str(bundle.path),
                    "--context",
                    "8",
                    "--samples",
                    "3",
                    "--seconds",
                    "0",
                    "--threads",
                    "1",
                    "--json",
                ]
            )
            == 0
        )
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {entry["length"] for entry in report["break_even"]} == set(range(1, 6))
    assert [(entry["rows"], entry["context"]) for entry in report["noise"]] == [(1, 8)]
    assert all(report["noise"][0][key] >= 0 for key in ("spread", "error", "difference"))
    assert load_cost_table(bundle, take_fingerprint(bundle, "onnxruntime", OPTIONS)) is not None
    assert (
        main(["profile", str(bundle.path), "--context", "8", "--samples", "3", "--seconds", "0", "--threads", "1"]) == 0
    )
    shown = capsys.readouterr()
    assert "accepted length above which speculation gains" in " ".join(shown.out.split())
    assert "1 batch sizes and contexts, about 0 s each" in shown.err


def test_profile_warns_of_noise_that_drowns_decisions(bundle: Bundle, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    import dspark_export.commands.profile as command

    for entry, warned in ((Noise(2, 64, 0.5, 0.2, 0.1), True), (Noise(2, 64, 0.5, 0.05, 0.1), False)):
        monkeypatch.setattr(command, "noise_of", lambda table, entry=entry: [entry._replace(rows=1, context=8)])
        assert main(["profile", str(bundle.path), "--context=8", "--samples=3", "--seconds=0", "--threads=1"]) == 0
        err = capsys.readouterr().err
        assert ("warning: 1 of 1 batch sizes and contexts are too noisy" in err) == warned
        assert ("--samples 48" in err) == warned
