"""`benchmarks/serving.py`: every load and mode measured, verdicts from quartiles, errors before any work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dspark_calibration import Round
from dspark_engines import GenerationResult, open_bundle
from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import Limits
from dspark_engines.measured import COST_TABLE, save_cost_table
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from tests.support.command_line import Outcome
from tests.support.costs import made_up_costs

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MODES = ["plain", "fixed", "threshold", "algorithm1", "async"]
QUICK = ("--turns=3", "--max-new-tokens=12", "--requests-per-place=4", "--threads=1")
sys.path.append(str(BENCHMARKS))  # as for a script that stands there

import closed_loop  # noqa: E402
import serving  # noqa: E402
import serving_report  # noqa: E402


@pytest.fixture(scope="module")
def bundle(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle for two requests at once, with a cost table of this machine."""
    path = tmp_path_factory.mktemp("serving") / "bundle"
    build_bundle(
        BuildPlan(*tiny_pair, path, "onnxruntime", Limits(context_length=96, prefill_chunk=16, slots=2)), Silent()
    )
    opened = open_bundle(path)
    save_cost_table(made_up_costs(opened, EngineOptions(threads=1)), opened)
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": "x" * n}) + "\n" for n in (1, 5, 9, 400)))  # the last one is too long
    return path


def serve(capsys: pytest.CaptureFixture[str], bundle: Path, *options: str) -> Outcome:
    capsys.readouterr()
    code = serving.run([str(bundle), *options])
    return Outcome(code, *capsys.readouterr())


def test_every_load_and_mode_is_measured(bundle: Path, prompts: Path, tmp_path: Path, capsys) -> None:
    figure = tmp_path / "figure.png"
    done = serve(capsys, bundle, *QUICK, f"--prompts={prompts}", f"--figure={figure}", "--json")
    assert done.code == 0, done.err
    assert "left out: 4, 8, 16 at once; the bundle was built for 2" in done.err
    report = done.json
    assert [(cell["load"], cell["mode"]) for cell in report["cells"]] == [(n, mode) for n in (1, 2) for mode in MODES]
    for cell in report["cells"]:
        assert cell["tokens_per_second"] > 0
        assert cell["user_tokens_per_second"] > 0
        assert cell["ratio_to_plain"] == sorted(cell["ratio_to_plain"])
        assert cell["verify_length"] >= 0
        assert 1 <= cell["accepted_length"] <= 1 + cell["verify_length"]
        if cell["mode"] == "plain":
            assert (cell["verify_length"], cell["ratio_to_plain"]) == (0, [1, 1, 1])
        elif cell["mode"] == "fixed":  # what is scheduled may leave drafting out
            assert cell["verify_length"] > 1
    assert [(v["load"], v["mode"]) for v in report["verdicts"]] == [(n, mode) for n in (1, 2) for mode in MODES[2:]]
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir() if "figure" in path.name] == ["figure.png"]


def test_table_and_a_line_for_each_load(bundle: Path, prompts: Path, capsys) -> None:
    done = serve(capsys, bundle, *QUICK, f"--prompts={prompts}", "--load=2", "--turns=1")
    assert done.code == 0, done.err
    assert all(mode in done.out for mode in MODES)
    (line,) = [line for line in done.out.splitlines() if line.startswith("2 at once, beside ")]
    assert line.count("not judged (fewer than 3 turns)") == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--load=3"], "no load that the bundle can take: it was built for 2"),
        (["--figure=figure.nope"], "figure.nope: not the name of a picture"),
        (["--figure=nowhere/figure.png"], "no such folder"),
        (["--prompts=nowhere.jsonl"], "nowhere.jsonl: not readable"),
        (["--max-new-tokens=94"], "no prompt that leaves room"),
        (["--threads=2"], "schedulers need a cost table of this machine"),
        (["--turns=0"], "Invalid value for '--turns'"),
    ],
)
def test_bad_input_is_refused_in_a_line(bundle: Path, prompts: Path, capsys, options: list[str], said: str) -> None:
    done = serve(capsys, bundle, "--threads=1", f"--prompts={prompts}", *options)
    assert_refused(done, said)


def test_a_bundle_without_cost_table_is_refused(tiny_bundle: Path, capsys) -> None:
    assert not (tiny_bundle / COST_TABLE).exists()
    done = serve(capsys, tiny_bundle, *QUICK)
    assert_refused(done, "has no cost table")
    assert f"hint: dspark-export profile {tiny_bundle} --threads 1" in done.err


def test_it_is_a_script(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "serving.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert_refused(Outcome(done.returncode, done.stdout, done.stderr), "not a bundle")


def assert_refused(done: Outcome, said: str) -> None:
    assert (done.code, done.out) == (2, "")
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert said in line
    assert "Traceback" not in done.err


def served(*arrivals: tuple[float, int]) -> closed_loop.Served:
    """A request whose rounds proposed as many tokens as they produced."""
    rounds = [Round(n, n - 1, n) for _, n in arrivals[1:]]
    return closed_loop.Served(list(arrivals), GenerationResult(7, rounds=rounds))


def test_only_the_time_with_all_places_filled_counts() -> None:
    """Two places, four requests: filled at 2.0; at 6.0 the third to finish leaves a place that nobody takes."""
    first, second = served((1.0, 1), (2.5, 2), (3.0, 4)), served((2.0, 1), (4.0, 3))
    third, fourth = served((4.0, 1), (5.0, 2), (6.0, 2)), served((5.0, 1), (6.0, 3), (9.0, 50))
    steady = closed_loop.steady_state([first, second, third, fourth], 2)
    assert steady.seconds == 4.0
    assert steady.tokens == (2 + 4) + 3 + (1 + 2 + 2) + (1 + 3)
    assert steady.user_rate == (4 + 3 + 4 + 3) / (0.5 + 2.0 + 2.0 + 1.0)
    assert [r.proposed for r in steady.rounds] == [2, 4, 3, 2, 2, 3]


def test_too_few_requests_are_no_steady_state() -> None:
    with pytest.raises(Exception, match="too short a run"):
        closed_loop.steady_state([served((1.0, 1)), served((2.0, 1))], 2)


def runs(**rates: list[float]) -> Any:
    """One load; every mode's tokens/s by turn."""
    return {(4, m): [closed_loop.Steady(1.0, int(r), r / 4, [Round(3, 1, 2)]) for r in rs] for m, rs in rates.items()}


def test_verdicts_are_turn_by_turn_against_the_better_one() -> None:
    """Turns differ by far more than modes do; ratios within a turn do not."""
    measured = runs(
        plain=[100, 200, 400],
        fixed=[110, 220, 440],
        threshold=[99, 198, 396],
        algorithm1=[110, 218, 441],
        **{"async": [120, 240, 480]},
    )
    found = serving_report.verdicts(measured)
    assert [(v.better, v.passed) for v in found] == [("fixed", False), ("fixed", True), ("fixed", True)]
    (line,) = serving_report.lines(found)
    assert line.startswith("4 at once, beside fixed: threshold 0.90 (0.90–0.90) worse; algorithm1 1.00 ")
    by_mode = {cell.mode: cell for cell in serving_report.cells(measured)}
    assert by_mode["fixed"].ratio_to_plain == (1.1, 1.1, 1.1)
    assert (by_mode["plain"].tokens_per_second, by_mode["plain"].user_tokens_per_second) == (200, 50)
    assert (by_mode["async"].verify_length, by_mode["async"].accepted_length) == (3, 2)
    few = serving_report.verdicts({key: values[:2] for key, values in measured.items()})
    assert {v.passed for v in few} == {None}
