"""`dspark-export eval`: two drafters of one bundle, one always right and one of random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dspark_engines import GenerationRequest, Runtime, RuntimeOptions, open_bundle
from dspark_engines.backends.onnxruntime import engines
from dspark_engines.bundle import engine_identity
from dspark_engines.text import TextCodec
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.evaluating.records import RECORDS
from dspark_export.evaluating.run import Runs
from dspark_export.named_path import NamedPath
from tests.conftest import ROOMY
from tests.support import scripted, tiny
from tests.support.command_line import Outcome, run

Capture = pytest.CaptureFixture[str]
DRAFTERS = ("--drafter=right", "--drafter=random")
TOKENS = 13


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eval")
    target, drafter = scripted.write_pair(root)
    random = NamedPath("random", tiny.write_drafter(root / "random"))
    build_bundle(
        BuildPlan(target, drafter, root / "two", "onnxruntime", ROOMY, label="right", further=(random,)), Silent()
    )
    return root / "two"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    lines = [{"prompt": f"w{n} w{n + 1}", "id": f"p{n}", "source": "ab"[n % 2]} for n in range(6)]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "set.jsonl"


def evaluation(capsys: Capture, bundle: Path, prompts: Path, *options: str | Path) -> Outcome:
    given = (f"--prompts={prompts}", f"--max-new-tokens={TOKENS}", "--threads=1", *DRAFTERS, *options)
    return run(capsys, "eval", bundle, *given)


def ways(outcome: Outcome, mode: int = 0) -> dict[str, Any]:
    return {way["way"]: way for way in outcome.json["modes"][mode]["ways"]}


def test_drafters_take_turns_with_plain_decoding(bundle: Path, prompts: Path, capsys: Capture) -> None:
    done = evaluation(capsys, bundle, prompts, "--json", "--temperature=0.9")
    assert done.code == 0, done.err
    report, found = done.json, ways(done)
    assert list(found) == ["plain", "plain again", "right", "random"]
    assert (report["passed"], report["files"]) == (True, [])
    assert [(way["name"], way["role"], way["block_size"]) for way in report["ways"]][1:] == [
        ("plain again", "control", 0), ("right", "drafter", tiny.BLOCK), ("random", "drafter", tiny.BLOCK),
    ]  # fmt: skip
    assert {way["identity"] for way in report["ways"]} == {engine_identity(open_bundle(bundle).manifest, "onnxruntime")}
    assert found["plain"]["overall"]["accepted_length"]["value"] == 1.0
    assert found["right"]["overall"]["accepted_length"]["value"] == 6.0  # 12 tokens behind the first, in two rounds
    assert found["right"]["overall"]["rejected"] == 0
    assert found["random"]["overall"]["accepted_length"]["value"] < 3.0
    assert all(way["identity"]["identical"] == 6 for name, way in found.items() if name != "plain")
    assert [source["source"] for source in found["right"]["sources"]] == ["a", "b"]
    (pair,) = report["modes"][0]["pairs"]
    assert (pair["first"], pair["second"], pair["accepted_shown"]) == ("right", "random", True)
    assert f"right accepts {pair['accepted_length']['value']:.2f} more tokens a round than random" in report["verdict"]
    assert [mode["mode"] for mode in report["modes"]] == ["greedy", "sampled"]
    assert all(way["identity"] is None for way in ways(done, 1).values())


def test_people_get_tables_and_the_sentence(bundle: Path, prompts: Path, capsys: Capture) -> None:
    done = evaluation(capsys, bundle, prompts, "--limit=2", "--drafter=right")
    assert done.code == 0, done.err
    assert "greedy, 2 prompts" in done.out
    assert "2 of 2" in done.out
    assert "2 prompts can tell nothing apart, take at least 5" in done.out
    assert "keep in mind: Only 2 prompts" in done.out


def test_a_run_goes_on_where_it_stopped(
    bundle: Path, prompts: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = ("--json", f"--output={tmp_path / 'out'}")
    first = evaluation(capsys, bundle, prompts, "--limit=2", *output)
    assert [Path(file).name for file in first.json["files"]] == [RECORDS, "eval.json", "eval.html"]
    records = (tmp_path / "out" / RECORDS).read_bytes()
    assert records.count(b"\n") == 1 + 2 * 4
    (tmp_path / "out" / RECORDS).write_bytes(records[:-9])  # as a killed run leaves it
    whole = evaluation(capsys, bundle, prompts, *output)
    assert whole.code == 0, whole.err
    after = (tmp_path / "out" / RECORDS).read_bytes()
    kept = records.split(b"\n")[:5]  # the conditions and the first prompt
    assert after.split(b"\n")[:5] == kept
    assert (whole.json["setting"]["prompts"], ways(whole)["right"]["overall"]["prompts"]) == (6, 6)
    monkeypatch.setattr(Runs, "__init__", None)  # nothing is left to run
    again = evaluation(capsys, bundle, prompts, *output)
    assert again.json == whole.json
    assert json.loads((tmp_path / "out" / "eval.json").read_text())["verdict"] == whole.json["verdict"]
    assert whole.json["verdict"].split("(")[0] in (tmp_path / "out" / "eval.html").read_text()


def test_records_under_other_conditions_are_refused(
    bundle: Path, prompts: Path, tmp_path: Path, capsys: Capture
) -> None:
    output = ("--limit=1", f"--output={tmp_path / 'out'}", "--json")
    assert evaluation(capsys, bundle, prompts, *output).code == 0
    refused = evaluation(capsys, bundle, prompts, *output, "--temperature=0.5", "--seed=3")
    assert (refused.code, refused.out) == (2, "")
    assert "other conditions: temperature (0.5; there 0.0); seed (3; there 0)" in refused.err
    assert evaluation(capsys, bundle, prompts, *output, "--temperature=0.5", "--overwrite").code == 0


def test_output_that_differs_without_a_tie_fails(
    bundle: Path, prompts: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Runs._run

    def wrong(self: Any, way: Any, request: GenerationRequest, what: str) -> Any:
        result = decode(self, way, request, what)
        if way.name == "right" and what == "prompt p1":
            result.token_ids[4] = 7 if result.token_ids[4] != 7 else 8
        return result

    monkeypatch.setattr(Runs, "_run", wrong)
    done = evaluation(capsys, bundle, prompts, "--json")
    assert done.code == 1
    identity = ways(done)["right"]["identity"]
    assert (identity["identical"], identity["ties"]) == (5, 0)
    (difference,) = identity["differences"]
    assert (difference["prompt"], difference["position"], difference["tie"]) == ("p1", 4, False)
    assert difference["gap"] > 0.1
    assert "GREEDY OUTPUT DIFFERS from plain decoding: right (5 of 6) identical" in done.json["verdict"]


def test_a_drafter_that_dies_ends_the_run_and_keeps_what_was_done(
    bundle: Path, prompts: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = engines.OrtDraftEngine.step, iter(range(1000))

    def die(self: Any, *args: Any, **kwargs: Any) -> Any:
        if next(calls) > 40:
            raise RuntimeError("out of memory")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(engines.OrtDraftEngine, "step", die)
    done = evaluation(capsys, bundle, prompts, f"--output={tmp_path / 'out'}")
    assert done.code == 2
    error, hint = done.err.splitlines()
    assert error.startswith("error: drafter ra")
    assert "failed on prompt p" in error
    assert "out of memory" in error
    assert hint.startswith("hint: ")
    assert (tmp_path / "out" / RECORDS).read_bytes().count(b"\n") > 4


def test_answers_are_counted_in_every_way(bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    opened = open_bundle(bundle)
    codec = TextCodec(opened)
    with Runtime(opened, RuntimeOptions(speculation="off", max_batch=1)) as runtime:
        (result,) = runtime.generate([GenerationRequest(codec.prompt_ids("w0"), TOKENS)])
    said = codec.tokenizer.decode(result.token_ids)
    lines = [{"prompt": "w0", "answer": said}, {"prompt": "w0 w1", "answer": "no such thing"}]
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = evaluation(capsys, bundle, path, "--accuracy", "--json")
    assert done.code == 0, done.err
    assert [way["accuracy"] for way in ways(done).values()] == [{"correct": 1, "prompts": 2}] * 4
    assert any("2 of 2 outputs were cut at 13 tokens" in caveat for caveat in done.json["caveats"])


def test_several_bundles_stand_on_engines_of_their_own(
    bundle: Path, prompts: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = shutil.copytree(bundle, tmp_path / "other")
    given = (f"--prompts={prompts}", "--limit=2", f"--max-new-tokens={TOKENS}", "--threads=1", "--drafter=right")
    done = run(capsys, "eval", bundle, other, *given, "--json")
    assert done.code == 0, done.err
    assert list(ways(done)) == ["plain", "plain again", "other/plain", "two/right", "other/right"]
    assert any("on its own engines" in caveat for caveat in done.json["caveats"])
    assert ways(done)["other/plain"]["identity"]["identical"] == 2
