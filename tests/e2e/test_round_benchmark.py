"""`benchmarks/round.py`: every part is counted, kinds of nodes are what they say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from dspark_engines.bundle import Limits
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from tests.support.command_line import Outcome

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # as for a script that stands there

import node_kinds  # noqa: E402
import round as round_benchmark  # noqa: E402
import round_report  # noqa: E402

QUICK = ("--context=20", "--turns=2", "--rounds=2", "--threads=1")
LIMITS = Limits(context_length=96, prefill_chunk=16, slots=2)


@pytest.fixture(scope="module")
def bundles(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """float32 and int8, for two requests at once."""
    root = tmp_path_factory.mktemp("round")
    for precision in ("fp32", "int8"):
        plan = BuildPlan(*tiny_pair, root / precision, "onnxruntime", LIMITS, precision=precision)  # type: ignore[arg-type]
        build_bundle(plan, Silent())
    return root / "fp32", root / "int8"


def call(capsys: pytest.CaptureFixture[str], run: Any, *arguments: object) -> Outcome:
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    return Outcome(code, *capsys.readouterr())


def test_both_precisions_are_taken_apart(bundles: tuple[Path, Path], capsys) -> None:
    done = call(capsys, round_benchmark.run, *bundles, *QUICK, "--profile", "--json")
    assert done.code == 0, done.err
    cells = done.json["cells"]
    assert [(cell["precision"], cell["rows"]) for cell in cells] == [("fp32", 1), ("fp32", 2), ("int8", 1), ("int8", 2)]
    for cell in cells:
        for kind in ("round_ms", "plain_ms"):
            parts = dict(cell[kind])
            total = parts.pop("total")
            assert sum(parts.values()) == pytest.approx(total, rel=0.5)  # medians one by one
            assert parts["verify engine"] > 0
            assert parts["accepting"] > 0
        assert cell["round_ms"]["draft engine"] > 0
        assert cell["plain_ms"]["draft engine"] == 0
        assert (cell["verify_8_to_1"] is None) == (cell["rows"] > 1)
        assert 0 < cell["outside_engines"] < 1
    assert [cell["plain_to_first"] == 1 for cell in cells[:2]] == [True, True]
    profiles = {(Path(entry["bundle"]).name, entry["rows"]): entry["engines"] for entry in done.json["profile"]}
    assert profiles.keys() == {("fp32", 1), ("fp32", 2), ("int8", 1), ("int8", 2)}
    for (precision, _), engines in profiles.items():
        assert engines.keys() == {"verify", "draft"}
        for engine in engines.values():
            assert sum(entry["ms"] for entry in engine["kinds"].values()) == pytest.approx(engine["kernels_ms"])
            assert ("quantisation" in engine["kinds"]) == (precision == "int8")
            assert engine["kinds"]["linears of attention"]["nodes"] > 0
        assert {"Markov steps", "confidence", "fc"} <= engines["draft"]["kinds"].keys()
        assert not {"Markov steps", "confidence", "fc"} & engines["verify"]["kinds"].keys()


def test_the_table(bundles: tuple[Path, Path], capsys) -> None:
    done = call(capsys, round_benchmark.run, bundles[1], *QUICK)
    assert done.code == 0, done.err
    for part in (*round_report.PARTS, "rest", "verify 8 ÷ verify 1", "outside the engines, drafting"):
        assert part in done.out


def test_no_room_is_an_error(bundles: tuple[Path, Path], capsys) -> None:
    done = call(capsys, round_benchmark.run, bundles[0], "--context=90")
    assert done.code == 2
    assert "positions needed, its context holds 96" in done.err
    assert "hint: a smaller --context" in done.err


def test_no_bundle_is_an_error(tmp_path: Path, capsys) -> None:
    assert call(capsys, round_benchmark.run, tmp_path / "no").code == 2


def test_parts_are_medians_of_what_was_counted() -> None:
    def sample(bundle: int, turn: int, scale: float) -> round_report.Sample:
        parts = {"draft engine": scale, "verify engine": 2 * scale, "accepting": 0.5 * scale, "total": 4 * scale}
        plain = {"verify engine": scale, "total": 2 * scale}
        return round_report.Sample(bundle, 1, turn, {"total": 1.0}, parts, plain, scale, 3 * scale)

    samples = [sample(bundle, turn, (1 + turn) / (1 + bundle)) for bundle in (0, 1) for turn in (0, 1, 2)]
    first, second = round_report.summary(samples, ["a", "b"], ["fp32", "int8"])["cells"]
    assert first["round_ms"] == {
        "draft engine": 2000,
        "verify engine": 4000,
        "binding": 0,
        "accepting": 1000,
        "rest": 1000,
        "total": 8000,
    }
    assert (first["outside_engines"], first["outside_engines_plain"]) == (0.25, 0.5)
    assert (first["plain_to_first"], second["plain_to_first"]) == (1.0, 2.0)
    assert second["verify_8_to_1"] == 3.0


@pytest.mark.parametrize("precision", [0, 1])
def test_every_product_is_of_a_known_kind(bundles: tuple[Path, Path], precision: int) -> None:
    """One row: 4 layers with two products of each kind, the head; the drafter's own."""
    folder = bundles[precision] / "engines" / "onnxruntime"
    for role, expected in (
        ("verify", {"linears of attention": 8, "linears of the MLP": 8, "output layer": 1}),
        ("draft", {"linears of attention": 6, "linears of the MLP": 4, "output layer": 1, "fc": 1, "confidence": 2}),
    ):
        path = folder / f"{role}.1.onnx"
        kinds = node_kinds.node_kinds(path)
        names = [node.name for node in onnx.load(path, load_external_data=False).graph.node]
        assert len(kinds) == len(set(names)) == len(names)
        counts = {kind: list(kinds.values()).count(kind) for kind in set(kinds.values())}
        for kind, count in expected.items():
            products = count + (kind == "confidence")  # its transpose, its product, its bias
            assert counts[kind] == products, (role, kind, counts)
        assert ("quantisation" in counts) == bool(precision)
