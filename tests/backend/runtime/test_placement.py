"""Placement: measured, stored, read back, followed, refused elsewhere."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from dspark_engines import GenerationRequest, Generator, Runtime, RuntimeOptions
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Bundle, Limits, open_bundle
from dspark_engines.measured import (
    COST_TABLE,
    PLACEMENT,
    CoreLayout,
    LayoutTiming,
    MeasuredLayout,
    load_placement,
    resolve_engines,
    save_placement,
    take_fingerprint,
)
from dspark_engines.profiling import PlacementPlan, place
from dspark_engines.profiling.layouts import choose_pairs
from dspark_engines.runtime.serving.plan import plan_runtime
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.commands.main import main

BACKEND = "onnxruntime"
EXCLUSIVE, PAIR, OTHER = (CoreLayout(cohorts=n, threads=t) for n, t in ((1, 1), (2, 2), (2, 1)))


@pytest.fixture(scope="module")
def built(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("placement") / "bundle"
    limits = Limits(context_length=96, prefill_chunk=16, slots=4)
    build_bundle(BuildPlan(*tiny_pair, path, BACKEND, limits), Silent())
    return path


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Bundle:
    """A copy that a test may write to."""
    return open_bundle(Path(shutil.copytree(built, tmp_path / "bundle")))


def timing(requests: int, layout: CoreLayout, seconds: float) -> LayoutTiming:
    return LayoutTiming(requests=requests, layout=layout, seconds=seconds, low=1.0, high=1.0, samples=3)


def placement(bundle: Bundle, **changes: Any) -> MeasuredLayout:
    """One thread for who is alone, two beside others, from three requests on."""
    here = take_fingerprint(bundle, BACKEND, EngineOptions())
    made = MeasuredLayout(
        fingerprint=here, exclusive=EXCLUSIVE, shared=PAIR, pairs_from=3, timings=[timing(1, EXCLUSIVE, 1.0)]
    )
    return made.model_copy(update=changes)


def requests(count: int) -> list[GenerationRequest]:
    rng = random.Random(0)
    return [GenerationRequest([rng.randrange(4, 100) for _ in range(rng.randrange(1, 40))], 20) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_it_decides_who_runs_where_and_nobodys_output_changes(bundle: Bundle, count: int) -> None:
    save_placement(placement(bundle), bundle)
    with get_backend(BACKEND).open(bundle, EngineOptions(1)) as engines:
        exclusive = [Generator(engines, bundle.manifest).run(request).token_ids for request in requests(count)]
    with Runtime(bundle, RuntimeOptions()) as runtime:
        results = runtime.generate(requests(count))
    assert [result.token_ids for result in results] == exclusive
    assert runtime.plan.cohorts.exclusive.threads == 1
    assert runtime.plan.cohorts.slots == [2, 2]
    assert {span.cohort for span in runtime.timeline.spans} == ({0} if count < 3 else {0, 1})


@pytest.mark.parametrize(
    ("changes", "options", "slots", "threads", "reason"),
    [
        ({}, {}, [2, 2], 1, "pay from 3 requests"),
        ({}, {"max_batch": 2}, [2], 1, "do not pay for fewer than 3 requests"),
        ({}, {"max_batch": 1}, [1], 1, "one request"),
        ({}, {"pipeline": "off"}, [4], 1, "switched off"),
        ({"pairs_from": 0, "shared": None}, {}, [4], 1, "do not pay for any number"),
        ({"pairs_from": 0, "shared": None}, {"pipeline": "on"}, [2, 2], 1, "of its own"),
        ({}, {"engines": EngineOptions(9999)}, [4], 9999, "cores"),
    ],
)
def test_what_is_given_overrules_it(
    bundle: Bundle, changes: dict[str, Any], options: dict[str, Any], slots: list[int], threads: int, reason: str
) -> None:
    made = placement(bundle, **changes)
    save_placement(made, bundle)
    cohorts = plan_runtime(bundle, RuntimeOptions(**options)).cohorts
    assert (cohorts.slots, cohorts.exclusive.threads) == (slots, threads)
    assert reason in cohorts.reason


def test_measured_stored_and_read_back(bundle: Bundle) -> None:
    told: list[tuple[int, int]] = []
    plan = PlacementPlan([1, 2, 4], context=16, samples=3)
    found = place(bundle, BACKEND, plan, lambda done, total: told.append((done, total)))
    assert found.exclusive.cohorts == 1
    assert {t.requests for t in found.timings if t.layout.cohorts == 2} <= {2, 4}
    assert all(0 < t.low <= t.seconds <= t.high and t.samples == 3 for t in found.timings)
    assert any(t.layout.spinning for t in found.timings)
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1], "the bar reaches its end"
    save_placement(found, bundle)
    assert load_placement(bundle, BACKEND) == found
    assert resolve_engines(bundle, BACKEND, EngineOptions()) == found.exclusive.engines
    assert resolve_engines(bundle, BACKEND, EngineOptions(3)) == EngineOptions(3)


@pytest.mark.parametrize(
    ("pair", "other", "expected"),
    [
        ({2: 0.5, 4: 0.5, 8: 0.5}, {}, (PAIR, 2)),
        ({2: 1.0, 4: 0.94, 8: 0.5}, {}, (PAIR, 4)),
        ({2: 0.5, 4: 0.96, 8: 0.5}, {}, (PAIR, 8)),
        ({2: 0.5, 4: 0.5, 8: 0.96}, {}, (None, 0)),
        ({2: float("nan"), 4: 0.5, 8: 0.5}, {}, (PAIR, 4)),
        ({2: 0.5, 4: 0.5, 8: 0.5}, {2: 0.9, 4: 0.9, 8: 0.4}, (OTHER, 2)),
        ({}, {}, (None, 0)),
    ],
)
def test_two_cohorts_have_to_gain_at_every_larger_number(
    pair: dict[int, float], other: dict[int, float], expected: tuple[CoreLayout | None, int]
) -> None:
    """Seconds of two cohorts by requests; one takes a second."""
    timings = [timing(n, EXCLUSIVE, 1.0) for n in (1, 2, 4, 8)]
    for layout, times in ((PAIR, pair), (OTHER, other)):
        timings += [timing(n, layout, 1.0).model_copy(update={"seconds": time}) for n, time in times.items()]
    assert choose_pairs(timings, EXCLUSIVE) == expected


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 2}', "{}"])
def test_a_damaged_file_is_ignored_with_a_warning(bundle: Bundle, text: str) -> None:
    bundle.file(PLACEMENT).parent.mkdir(exist_ok=True)
    bundle.file(PLACEMENT).write_text(text, "utf-8")
    with pytest.warns(RuntimeWarning, match=r"placement\.json is not a placement"):
        assert load_placement(bundle, BACKEND) is None


def test_one_of_another_machine_is_ignored_with_a_warning(bundle: Bundle) -> None:
    elsewhere = take_fingerprint(bundle, BACKEND, EngineOptions()).model_copy(update={"cpu": "abacus"})
    save_placement(placement(bundle, fingerprint=elsewhere), bundle)
    with pytest.warns(RuntimeWarning, match=r"measured elsewhere \(cpu differ\).*profile"):
        assert resolve_engines(bundle, BACKEND, EngineOptions()) == EngineOptions()


def test_profile_chooses_unless_threads_are_given(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile", str(bundle.path), "--context", "16", "--samples", "3", "--seconds", "0"]
    assert main([*arguments, "--threads", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["placement"] is None
    assert not bundle.file(PLACEMENT).exists()
    assert main([*arguments, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])["placement"]
    stored = load_placement(bundle, BACKEND)
    assert stored is not None
    assert shown == stored.model_dump(exclude={"fingerprint"}, mode="json")
    table = json.loads(bundle.file(COST_TABLE).read_text("utf-8"))
    assert table["fingerprint"]["threads"] == stored.exclusive.threads
    assert main(arguments) == 0
    assert "placement: one cohort" in capsys.readouterr().out
