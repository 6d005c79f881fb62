"""What `eval` must refuse, each with what the error's line says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

from tests.support.command_line import Case, Place, edit_json

PROMPT = {"prompt": "hello"}
Change = Callable[[dict[str, Any]], Any]


def evaluation(*options: str, fragment: str, lines: tuple[Any, ...] = (PROMPT,)) -> Case:
    """An evaluation with these options on prompts of these lines; {root} is the test's place."""

    def prepare(place: Place) -> list[str]:
        return [*_command(place, *lines), *(option.format(root=place.root) for option in options)]

    return Case(prepare, fragment)


def against(change: Change, fragment: str) -> Case:
    """Two bundles, the second with this change to its manifest."""

    def prepare(place: Place) -> list[str]:
        other = shutil.copytree(place.bundle, place.root / "other")
        edit_json(other / "manifest.json", change)
        name, *rest = _command(place, PROMPT)
        return [name, str(other), *rest]

    return Case(prepare, fragment)


def _command(place: Place, *lines: Any) -> list[str]:
    (place.bundle.parent / "set.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ["eval", str(place.bundle), f"--prompts={place.root}/set.jsonl", "--threads=1"]


def _other_target(manifest: dict[str, Any]) -> None:
    for record in manifest["target"]["files"]:
        record["sha256"] = "0" * 64


def twice(place: Place) -> list[str]:
    """The same bundle under two names."""
    command, bundle, *rest = _command(place, PROMPT)
    (place.root / "link").symlink_to(place.bundle)
    return [command, bundle, f"{place.root}/link", *rest]


def without_drafter(place: Place) -> list[str]:
    """Asked for a drafter that only another bundle of this folder has."""
    return [*_command(place, PROMPT), "--drafter=eagle3"]


def foreign_records(place: Place) -> list[str]:
    """The output's folder has a file of that name."""
    (place.bundle.parent / "out").mkdir()
    (place.root / "out" / "records.jsonl").write_text("hello\n")
    return [*_command(place, PROMPT), f"--output={place.root}/out"]


def output_is_a_file(place: Place) -> list[str]:
    """--output names one."""
    (place.bundle.parent / "out").write_text("hello\n")
    return [*_command(place, PROMPT), f"--output={place.root}/out"]


LONG = {"prompt": "x" * 200}

EVALUATION = {
    "eval: no bundle": Case(lambda place: ["eval", "--prompts=x"], "Missing argument 'BUNDLE...'"),
    "eval: no prompts": Case(lambda place: ["eval", str(place.bundle)], "Missing option '--prompts'"),
    "eval: prompts that are not there": evaluation("--prompts={root}/no.jsonl", fragment="no.jsonl: not readable"),
    "eval: prompts in no known layout": evaluation(
        lines=(PROMPT, {"query": "a", "reply": "b"}),
        fragment="set.jsonl:2: in no layout that is known (its keys: query, reply)",
    ),
    "eval: prompts that are an array": evaluation(lines=([PROMPT],), fragment="set.jsonl:1: no prompt in this line"),
    "eval: a layout without one of its keys": evaluation(
        lines=({"task_id": 1, "code": "x", "prompt": 7},), fragment="set.jsonl:1: "
    ),
    "eval: one id twice": evaluation(
        lines=(PROMPT | {"id": 1}, PROMPT | {"id": 1}), fragment="set.jsonl:2: prompt id 1 occurs twice"
    ),
    "eval: no answers": evaluation("--accuracy", fragment="set.jsonl:1: has no answer, and accuracy needs one"),
    "eval: some answers": evaluation(
        "--accuracy", lines=(PROMPT | {"answer": "1"}, {"question": "a"}), fragment="set.jsonl:2: has no answer"
    ),
    "eval: a prompt that is too long": evaluation(lines=(PROMPT, LONG), fragment="set.jsonl:2: the prompt has "),
    "eval: an unknown drafter": Case(without_drafter, "no drafter called 'eagle3'"),
    "eval: one bundle twice": Case(twice, "link: given twice"),
    "eval: another target": against(_other_target, "with other content: not the same footing"),
    "eval: another precision": against(
        lambda manifest: manifest.update(precision="int8"), "precision is fp32, that of "
    ),
    "eval: another context": against(
        lambda manifest: manifest["limits"].update(context_length=64), "context length is 96, that of "
    ),
    "eval: no engines of that backend": evaluation("--backend=tensorrt-rtx", fragment="no engines of backend"),
    "eval: a temperature below 0": evaluation("--temperature=-1", fragment="temperature is -1.0"),
    "eval: no tokens": evaluation("--max-new-tokens=0", fragment="Invalid value for '--max-new-tokens': 0"),
    "eval: a limit of 0": evaluation("--limit=0", fragment="Invalid value for '--limit': 0"),
    "eval: somebody's file": Case(foreign_records, "records.jsonl:1: no record of an evaluation"),
    "eval: output is a file": Case(output_is_a_file, "out: is not a directory"),
}
