"""`generate --batch-file`: results in order, bad lines named, defaults and overrides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dspark_engines import open_bundle
from dspark_engines.backends import EngineOptions, Engines
from dspark_engines.backends.onnxruntime.backend import OnnxRuntimeBackend
from dspark_engines.bundle import Limits
from dspark_engines.errors import BackendError
from dspark_engines.measured import save_cost_table
from dspark_engines.runtime.round.runner import RoundRunner
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.commands.main import main
from tests.support import tiny
from tests.support.bad_requests import LINES as BAD_LINES
from tests.support.costs import made_up_costs
from tests.support.spoiled import SpoiledVerify

LINES = [
    {"id": "a", "prompt": "hello", "max_new_tokens": 4},
    {"id": 2, "prompt": "hello", "max_new_tokens": 6, "temperature": 1.0, "seed": 5},
    {"prompt": "hello", "max_new_tokens": 6, "temperature": 1.0},
    {"prompt": "hello", "max_new_tokens": 6, "temperature": 1.0, "speculate": False},
]


def run(capsys: pytest.CaptureFixture[str], bundle: Path, file: Path, *more: str) -> tuple[int, list[dict], str]:
    code = main(["generate", str(bundle), "--batch-file", str(file), "--threads", "1", *more])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_one_result_a_line_in_the_files_order(tiny_bundle: Path, tmp_path: Path, capsys) -> None:
    file = write(tmp_path / "requests.jsonl", *LINES)
    code, results, _ = run(capsys, tiny_bundle, file, "--seed", "3")
    assert code == 0
    assert [r.get("id") for r in results] == ["a", 2, None, None]
    assert [len(r["token_ids"]) for r in results] == [4, 6, 6, 6]
    assert results[3]["accepted_length"] == 1.0
    assert run(capsys, tiny_bundle, file, "--seed", "3")[1][1:3] != results[2:]  # lines draw for themselves
    again = run(capsys, tiny_bundle, file, "--seed", "4")[1]
    assert again[1]["token_ids"] == results[1]["token_ids"], "a line's own seed holds"
    assert again[2]["token_ids"] != results[2]["token_ids"], "other lines follow --seed"


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_named_and_the_next_one_works(tiny_bundle: Path, tmp_path: Path, capsys, case: str) -> None:
    bad, said = BAD_LINES[case]
    expected = run(capsys, tiny_bundle, write(tmp_path / "good.jsonl", LINES[0]))[1][0]["token_ids"]
    file = write(tmp_path / "requests.jsonl", bad, LINES[0])
    code, results, err = run(capsys, tiny_bundle, file)
    assert code == 2
    assert results[1]["token_ids"] == expected
    assert f"{file}:1: " in results[0]["error"]
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert f"{file}:1: " in errors[0]
    assert said in errors[0]


def test_a_good_line_works_behind_every_bad_one(tiny_bundle: Path, tmp_path: Path, capsys) -> None:
    """All in one file: whatever came before, the same request gets the same output."""
    lines = [line for bad, _ in BAD_LINES.values() for line in (bad, LINES[1])]
    code, results, err = run(capsys, tiny_bundle, write(tmp_path / "requests.jsonl", *lines))
    alone = run(capsys, tiny_bundle, write(tmp_path / "good.jsonl", LINES[1]))[1][0]["token_ids"]
    assert code == 2
    assert ["error" in result for result in results] == [True, False] * len(BAD_LINES)
    assert all(result["token_ids"] == alone for result in results[1::2])
    assert sum(line.startswith("error: ") for line in err.splitlines()) == len(BAD_LINES)


def test_a_failed_generation_is_an_error_in_its_place(tiny_bundle: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    """The second line's logits are NaN; the lines around it are what they are without it."""
    file = write(tmp_path / "requests.jsonl", LINES[0], LINES[1], LINES[3])
    expected = run(capsys, tiny_bundle, file)[1]
    opened = OnnxRuntimeBackend.open

    @contextmanager
    def spoiled(self: OnnxRuntimeBackend, *args: Any, **kwargs: Any) -> Iterator[Engines]:
        with opened(self, *args, **kwargs) as engines:
            yield Engines(SpoiledVerify(engines.verify, {1}, float("nan")), engines.draft)

    monkeypatch.setattr(OnnxRuntimeBackend, "open", spoiled)
    code, results, err = run(capsys, tiny_bundle, file, "--json")
    assert code == 2
    assert [r["token_ids"] for r in results[0:3:2]] == [r["token_ids"] for r in expected[0::2]]
    assert results[1]["id"] == LINES[1]["id"]
    assert f"{file}:2: the target's logits are NaN or infinite at position" in results[1]["error"]
    assert results[3]["run"]["requests"] == 2
    assert f"error: {file}:2: the target's logits are NaN" in err
    assert "hint: the weights may hold NaN" in err


def test_a_request_that_fails_leaves_the_others_alone(
    tiny_bundle: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an engine that gives up, say; its id comes back with the error, even one that no encoding can hold."""
    start, calls = RoundRunner.start, iter(range(1, 9))

    def fail_once(self: RoundRunner, *arguments: Any) -> Any:
        if next(calls) == 2:
            raise BackendError("no memory for the caches")
        return start(self, *arguments)

    monkeypatch.setattr(RoundRunner, "start", fail_once)
    file = write(tmp_path / "requests.jsonl", LINES[0], {"prompt": "x", "id": "\ud83d"}, LINES[0])
    code, results, err = run(capsys, tiny_bundle, file)
    assert code == 2
    assert results[0]["token_ids"] == results[2]["token_ids"]
    assert set(results[1]) == {"id", "error"}
    assert results[1]["id"] == "\ud83d"
    assert f"error: {file}:2: no memory for the caches" in err


@pytest.fixture(scope="module")
def roomy_bundle(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For two requests at once, with a cost table for one engine thread."""
    path = tmp_path_factory.mktemp("roomy") / "bundle"
    limits = Limits(context_length=96, prefill_chunk=16, slots=2)
    build_bundle(BuildPlan(*tiny_pair, path, "onnxruntime", limits), Silent())
    opened = open_bundle(path)
    save_cost_table(made_up_costs(opened, EngineOptions(threads=1)), opened)
    return path


@pytest.mark.parametrize("pipeline", ["on", "off"])
def test_json_adds_a_line_about_the_run(roomy_bundle: Path, tmp_path: Path, capsys, pipeline: str) -> None:
    file = write(tmp_path / "requests.jsonl", LINES[0], "{not json", *LINES[1:])
    options = ("--scheduler=async", f"--pipeline={pipeline}")
    _, without, err = run(capsys, roomy_bundle, file, *options)
    code, lines, quiet = run(capsys, roomy_bundle, file, *options, "--json")
    results, (last,) = lines[:-1], lines[-1:]
    assert code == 2
    assert [r["token_ids"] for r in results if "error" not in r] == [
        r["token_ids"] for r in without if "error" not in r
    ]
    assert list(last) == ["run"]
    statistics, tokens = last["run"], [r["token_ids"] for r in results if "error" not in r]
    assert (statistics["requests"], statistics["tokens"]) == (4, sum(map(len, tokens)))
    assert statistics["rounds"] == sum(r.get("rounds", 0) for r in results)
    assert statistics["scheduler"] == "async"
    assert 0 < statistics["mean_verify_length"] < tiny.BLOCK
    assert 1 <= statistics["accepted_length"] <= 1 + statistics["mean_verify_length"]
    assert statistics["cohorts"] == ([1, 1] if pipeline == "on" else [2])
    assert ("two cohorts" if pipeline == "on" else "switched off") in statistics["cohorts_reason"]
    assert all(0 <= share < 1 for share in statistics["idle_share"].values())
    assert 0 <= statistics["overlap_seconds"] <= statistics["seconds"]
    assert (statistics["overlap_seconds"] == 0) or pipeline == "on"
    assert re.search(r"^4 requests, \d+ tokens in .* scheduler async, verify length \d", err, re.M)
    assert "4 requests" not in quiet


def test_the_scheduler_that_decided_is_named(tiny_bundle: Path, tmp_path: Path, capsys) -> None:
    file = write(tmp_path / "requests.jsonl", LINES[0])
    with pytest.warns(RuntimeWarning, match="no cost table"):
        _, lines, _ = run(capsys, tiny_bundle, file, "--scheduler=algorithm1", "--json")
    assert lines[-1]["run"]["scheduler"] == "fixed"


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_refused(tiny_bundle: Path, tmp_path: Path, capsys, content: str) -> None:
    code, results, err = run(capsys, tiny_bundle, write(tmp_path / "requests.jsonl", content))
    assert (code, results) == (2, [])
    assert "holds no request" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--temperature", "-1"], "temperature is -1"),
        (["--temperature", "nan"], "temperature is nan"),
        (["--top-p", "0"], "top_p is 0"),
        (["--top-p", "1.5"], "top_p is 1.5"),
        (["--min-p", "1"], "min_p is 1"),
        (["--top-k", "-1"], "top_k is -1"),
        (["--seed", "-1"], "seed is -1"),
        (["--scheduler", "nope"], "nope"),
        (["--batch-file", "x.jsonl"], "both a prompt and --batch-file"),
    ],
)
def test_bad_sampling_options(tiny_bundle: Path, capsys, options: list[str], said: str) -> None:
    assert main(["generate", str(tiny_bundle), "--prompt", "x", *options]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ")
    assert said in err.splitlines()[0]
