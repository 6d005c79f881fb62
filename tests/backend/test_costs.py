"""The cost table: measured, stored, read back, refused elsewhere; what it says about break-even."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest

from dspark_engines import Runtime, RuntimeOptions
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Bundle, open_bundle
from dspark_engines.costs import (
    COST_TABLE,
    CostTable,
    Timing,
    break_even,
    is_flat,
    load_cost_table,
    save_cost_table,
    take_fingerprint,
)
from dspark_engines.profiling import ProfilePlan, measure
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
        plan = ProfilePlan(rows=[1], contexts=[8, 40], samples=3)
        measured = measure(bundle, engines, plan, here, lambda done, total: told.append((done, total)))
    assert {(t.context, t.tokens) for t in measured.verify} == {(c, n) for c in (8, 40) for n in range(1, 7)}
    assert all(t.low <= t.seconds <= t.high and t.samples == 3 for t in measured.verify + measured.draft)
    assert told == [(1, 2), (2, 2)]
    save_cost_table(measured, bundle)
    assert load_cost_table(bundle, here) == measured


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


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 99}'])
def test_a_damaged_table_is_ignored_with_a_warning(bundle: Bundle, content: str) -> None:
    bundle.file("calibration").mkdir()
    bundle.file(COST_TABLE).write_text(content)
    with pytest.warns(RuntimeWarning, match="is not a cost table"):
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
        assert main(["profile", str(bundle.path), "--context", "8", "--samples", "3", "--threads", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {entry["length"] for entry in report["break_even"]} == set(range(1, 6))
    assert load_cost_table(bundle, take_fingerprint(bundle, "onnxruntime", OPTIONS)) is not None
    assert main(["profile", str(bundle.path), "--context", "8", "--samples", "3", "--threads", "1"]) == 0
    assert "accepted length above which speculation gains" in " ".join(capsys.readouterr().out.split())
