"""Bundles of older versions open and run: their names are read as today's."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspark_engines import open_bundle
from dspark_engines.backends import EngineOptions
from dspark_engines.backends.padded.lowering import lower_graph
from dspark_engines.measured import CoreLayout, CostTable, LayoutTiming, Measured, MeasuredLayout
from dspark_export.bundling import Silent, compile_bundle
from tests.support.command_line import generate, run
from tests.support.costs import made_up_costs
from tests.support.fake_tensorrt import install
from tests.support.older_bundle import GRAPH, OLD_GRAPH, older_bundle, older_keys


@pytest.fixture
def older(tiny_bundle: Path, tmp_path: Path) -> Path:
    return older_bundle(tiny_bundle, tmp_path / "older")


def test_it_opens_and_generates_the_same(tiny_bundle: Path, older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert open_bundle(older).manifest.graphs["accept"].path == OLD_GRAPH
    ours, theirs = (generate(capsys, bundle, "--prompt=hello", "--raw") for bundle in (older, tiny_bundle))
    assert ours["token_ids"] == theirs["token_ids"]


def test_accepting_is_compared_with_its_graph(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(capsys, "compile", older, "--compare", "--json")
    assert outcome.code == 0
    assert {"accept.accepted", "accept.next_ids"} <= {row["output"] for row in outcome.json["outputs"]}


def test_its_op_is_lowered_as_todays(tiny_bundle: Path, older: Path) -> None:
    ours, theirs = (lower_graph(path, 64, "fp32") for path in (older / OLD_GRAPH, tiny_bundle / GRAPH))
    assert [node.op_type for node in ours.graph] == [node.op_type for node in theirs.graph]
    assert all(node.domain == "" for node in ours.graph)


def test_engines_can_be_added_to_it(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="the extra [kernels] is not installed")
    install(monkeypatch)
    manifest = compile_bundle(older, "tensorrt", Silent(), overwrite=False)
    engine = next(engine for engine in manifest.backends[-1].engines if engine.role == "accept")
    assert (engine.built_from.path, engine.plugins) == (OLD_GRAPH, ["Accept"])
    assert open_bundle(older).manifest.graphs.keys() == {"target", "drafter", "accept"}


@pytest.mark.parametrize("kind", [MeasuredLayout, CostTable])
def test_measurements_with_older_keys_are_read(tiny_bundle: Path, kind: type[Measured]) -> None:
    bundle = open_bundle(tiny_bundle)
    table = made_up_costs(bundle, EngineOptions(1))
    layout = CoreLayout(cohorts=2, threads=1)
    timing = LayoutTiming(requests=1, layout=layout, seconds=1.0, low=1.0, high=1.0, samples=1)
    made = {
        CostTable: table.model_copy(update={"shared": table}),
        MeasuredLayout: MeasuredLayout(
            fingerprint=table.fingerprint, exclusive=layout, shared=layout, pairs_from=2, timings=[timing]
        ),
    }[kind]
    today = made.model_dump(mode="json")
    older = older_keys(today)
    assert today.keys() != older.keys()
    assert kind.model_validate(older) == kind.model_validate(today) == made
