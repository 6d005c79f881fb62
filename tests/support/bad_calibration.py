"""What `calibrate` and `report` must refuse, each with what the error's line says."""

from __future__ import annotations

import json
from typing import Any

from dspark_calibration import PromptRef, TraceHeader
from dspark_engines.bundle import engine_identity, open_bundle
from tests.support import tiny
from tests.support.calibrated import write_prompts
from tests.support.command_line import Case, Place
from tests.support.rounds import write_traces


def prompts(lines: list[Any], fragment: str, *options: str) -> Case:
    """A calibration on a prompt set of these lines."""

    def prepare(place: Place) -> list[str]:
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        (place.root / "set.jsonl").write_text(text)
        return ["calibrate", str(place.bundle), f"--prompts={place.root}/set.jsonl", *options]

    return Case(prepare, fragment)


def options(*given: str, fragment: str) -> Case:
    """A calibration with these options; {root} is the test's place."""

    def prepare(place: Place) -> list[str]:
        write_prompts(place.root / "set.jsonl")
        return ["calibrate", str(place.bundle), *(option.format(root=place.root) for option in given)]

    return Case(prepare, fragment)


def traces(change: dict[str, Any], fragment: str, count: int = 10, written: int = 10) -> Case:
    """A calibration whose folder has traces already, of a header with this change."""

    def prepare(place: Place) -> list[str]:
        write_traces(place.root / "t", _header(place, count).model_copy(update=change), range(written))
        return ["calibrate", str(place.bundle), str(place.root / "t"), "--merge", "--bins=2"]

    return Case(prepare, fragment)


def damaged(name: str, content: str, command: str, fragment: str) -> Case:
    """A file of the bundle's calibration with this content, and a command that reads it."""

    def prepare(place: Place) -> list[str]:
        folder = place.bundle / "calibration"
        folder.mkdir()
        (folder / name).write_text(content)
        return [part.format(bundle=place.bundle, root=place.root) for part in command.split()]

    return Case(prepare, fragment)


def without_confidences(place: Place) -> list[str]:
    """A bundle whose drafter has no confidence head, and gives no scores either, as older versions built them."""
    drafter = tiny.write_drafter(place.root / "plain", tiny.drafter_spec(confidence=False))
    from dspark_export.commands.main import main

    assert main(place.build(drafter=drafter)) == 0
    file = place.root / "out" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["drafter"]["scores"] = []
    file.write_text(json.dumps(manifest))
    write_prompts(place.root / "set.jsonl")
    return ["calibrate", str(place.root / "out"), f"--prompts={place.root}/set.jsonl"]


def _header(place: Place, count: int) -> TraceHeader:
    return TraceHeader(
        bundle=engine_identity(open_bundle(place.bundle).manifest, "onnxruntime"),
        block_size=tiny.BLOCK,
        prompts_sha256="b" * 64,
        max_new_tokens=8,
        temperature=0.0,
        seed=0,
        prompts=[PromptRef(id=f"p/{i}", source="a") for i in range(count)],
    )


A, B = {"id": "a", "prompt": "one"}, {"id": "b", "prompt": "two"}
SET = "--prompts={root}/set.jsonl"
CALIBRATION = {
    "calibrate: no prompt set": options(fragment="no prompt set"),
    "calibrate: prompt set not there": options("--prompts={root}/no.jsonl", fragment="no.jsonl: not readable"),
    "calibrate: empty prompt set": prompts([""], "set.jsonl: holds no prompt"),
    "calibrate: a line without a prompt": prompts([A, {"id": "b"}], "set.jsonl:2: no prompt in this line"),
    "calibrate: a line that is no object": prompts([A, "[1]"], "set.jsonl:2: no prompt in this line"),
    "calibrate: the same prompt twice": prompts([A, B, A | {"id": "c"}], "prompts a and c are the same"),
    "calibrate: the same id twice": prompts([A, B | {"id": "a"}], "prompt id a occurs twice"),
    "calibrate: a prompt that is too long": prompts([A, {"prompt": "x" * 200}], "set.jsonl:2: the prompt has"),
    "calibrate: shard beyond": options(SET, "--shard=3/2", fragment="shard 3/2 does not exist"),
    "calibrate: shard 0": options(SET, "--shard=0/2", fragment="shard 0/2 does not exist"),
    "calibrate: no shard": options(SET, "--shard=one", fragment="'one' is not i/n"),
    "calibrate: two modes": options(SET, "--shard=1/2", "--check", fragment="more than one of --shard, --merge and"),
    "calibrate: a folder without --merge": options(SET, "{root}/t", fragment="unexpected argument"),
    "calibrate: merge of nothing": options("--merge", fragment="--merge without a folder"),
    "calibrate: merge with prompts": options("{root}/t", "--merge", SET, fragment="--merge takes no --prompts"),
    "calibrate: merge of a folder without traces": options("{root}", "--merge", fragment="no traces here"),
    "calibrate: one bin": options(SET, "--bins=1", fragment="Invalid value for '--bins': 1"),
    "calibrate: temperature below 0": options(SET, "--temperature=-1", fragment="Invalid value for '--temperature'"),
    "calibrate: no confidence head": Case(without_confidences, "the drafter has no confidence head"),
    "calibrate: traces of another bundle": traces({"bundle": "c" * 64}, "the traces are of another bundle"),
    "calibrate: a shard is missing": traces({}, "3 of 10 prompts are in no shard, the first is p/7", written=7),
    "calibrate: check without a calibration": options(SET, "--check", fragment="not calibrated"),
    "report: no bundle": Case(lambda p: ["report"], "Missing argument 'BUNDLE...'"),
    "report: not calibrated": Case(lambda p: ["report", str(p.bundle)], "not calibrated"),
    "report: damaged calibration": damaged("sts.json", "{}", "report {bundle}", "is not a calibration (missing key"),
    "report: output for one": Case(lambda p: ["report", str(p.bundle), f"--output={p.root}/x"], "--output is for"),
    "report: comparison without reports": Case(lambda p: ["report", str(p.bundle), str(p.bundle)], "has no report"),
    "report: comparison of damaged ones": damaged(
        "report.json", "{}", "report {bundle} {bundle}", "not a report (missing key"
    ),
    "build: prompt set not there": Case(lambda p: p.build(prompts=f"{p.root}/no.jsonl"), "no.jsonl: not readable"),
}
