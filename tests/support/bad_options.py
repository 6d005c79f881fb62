"""Options, recipes and prompt sets that must be refused, each with what the error's line says."""

from __future__ import annotations

from typing import Any

from tests.support.bad_requests import request
from tests.support.command_line import Case, Place

RECIPE = """
backend = "{backend}"
precision = "fp32"
[target]
path = "{root}/target"
[drafter]
path = "{root}/drafter"
[limits]
context_length = {context}
prefill_chunk = 16
slots = 1
"""


def recipe(text: str, fragment: str, command: str = "build", **values: Any) -> Case:
    """A build (or export) from a recipe."""

    def prepare(place: Place) -> list[str]:
        fields = {"root": place.target.parent, "backend": "onnxruntime", "context": 96} | values
        (place.drafter.parent / "recipe.toml").write_text(text.format(**fields))
        return [command, f"--recipe={place.root}/recipe.toml", f"--output={place.root}/out"]

    return Case(prepare, fragment)


def utf16_recipe(place: Place) -> list[str]:
    """As PowerShell's > writes it."""
    (place.root / "recipe.toml").write_text(RECIPE, "utf-16")
    return ["build", f"--recipe={place.root}/recipe.toml", f"--output={place.root}/out"]


def prompts(content: bytes | None, fragment: str) -> Case:
    """A prompt set for `check`."""

    def prepare(place: Place) -> list[str]:
        if content is not None:
            (place.root / "prompts.jsonl").write_bytes(content)
        return ["check", str(place.bundle), f"--prompts={place.root}/prompts.jsonl"]

    return Case(prepare, fragment)


OPTIONS = {
    "option: unknown": request("--promt", "a", fragment="No such option"),
    "option: without a value": request("--prompt", fragment="Option '--prompt' requires an argument"),
    "option: unknown backend": request("--backend", "nope", fragment="Invalid value for '--backend': 'nope' is not"),
    "option: no tokens": request(
        "--prompt=a", "--max-new-tokens=0", fragment="Invalid value for '--max-new-tokens': 0"
    ),
    "option: tokens are text": request("--prompt=a", "--max-new-tokens=x", fragment="'x' is not a valid integer"),
    "option: threads below 0": request("--prompt=a", "--threads=-1", fragment="Invalid value for '--threads': -1"),
    "option: one too many": request("again", fragment="Got unexpected extra argument (again)"),
    "option: a drafter that is not there": request(
        "--prompt=a", "--drafter=eagle3", fragment="has no drafter called 'eagle3'"
    ),
    "option: drafters of one name": Case(
        lambda p: [*p.build(), f"--drafter={p.pair[1]}"], "there is a drafter called 'dspark' already"
    ),
    "option: a block of another length": Case(lambda p: p.build(draft_length=3), "drafts blocks of 5 tokens, not 3"),
    "option: a length without a drafter": Case(
        lambda p: p.build(drafter=None, draft_length=3), "--draft-length is of a drafter, and there is none"
    ),
    "option: a drafter called none": Case(lambda p: p.build(drafter=f"none={p.drafter}"), "'none' is no name for a"),
    "option: two drafters on a GPU": Case(
        lambda p: [*p.build(backend="onnxruntime-cuda"), f"--drafter=b={p.pair[1]}"],
        "backend 'onnxruntime-cuda' takes one drafter a bundle",
    ),
    "option: no bundle": Case(lambda p: ["generate"], "Missing argument 'BUNDLE'"),
    "option: no target": Case(lambda p: p.build(target=None), "Missing option '--target'"),
    "option: context of 0": Case(lambda p: p.build(context_length=0), "Invalid value for '--context-length': 0"),
    "option: unknown command": Case(lambda p: ["bild"], "No such command 'bild'"),
    "option: audit and report": Case(
        lambda p: ["check", str(p.bundle), "--audit", "--precision-report"], "give one of them"
    ),
    "option: accepted length of NaN": Case(
        lambda p: ["check", str(p.bundle), "--min-accepted-length=nan"], "--min-accepted-length is nan"
    ),
    "option: accepted length below 1": Case(
        lambda p: ["check", str(p.bundle), "--min-accepted-length=0.5"], "'--min-accepted-length'"
    ),
    "option: accepted length of a report": Case(
        lambda p: ["check", str(p.bundle), "--precision-report", "--min-accepted-length=2"],
        "judges no accepted length",
    ),
    "option: report on float32": Case(lambda p: ["check", str(p.bundle), "--precision-report"], "is in float32"),
    "option: half of a pair": Case(lambda p: ["check", str(p.bundle), "--target=x"], "only one of --target and --dr"),
    "option: too few samples": Case(lambda p: ["profile", str(p.bundle), "--samples=2"], "for '--samples': 2"),
    "option: seconds below 0": Case(lambda p: ["profile", str(p.bundle), "--seconds=-1"], "for '--seconds': -1"),
    "option: seconds without end": Case(lambda p: ["profile", str(p.bundle), "--seconds=nan"], "--seconds is nan"),
    "option: too hot for float32": request("--prompt=a", "--temperature=1e39", fragment="temperature is 1e+39"),
    "option: too cold for float32": request("--prompt=a", "--temperature=1e-50", fragment="temperature is 1e-50"),
    "recipe: nested deeply": recipe("a = " + "[" * 20_000, "recipe.toml: nested too deeply"),
    "recipe: UTF-16": Case(utf16_recipe, "recipe.toml: not UTF-8 text: it is marked as UTF-16"),
    "recipe: NUL in a path": recipe(
        RECIPE.replace("/target", "\\u0000"), "Invalid value for '--target': a name cannot hold NUL"
    ),
    "recipe: further drafters alone": recipe(
        RECIPE.replace("[drafter]", "[drafters.small]"), "[drafters] without [drafter]"
    ),
    "recipe: not there": Case(lambda p: ["build", f"--recipe={p.root}/no.toml"], "/no.toml: No such file"),
    "recipe: no TOML": recipe("backend = ", "recipe.toml: not TOML"),
    "recipe: not text": Case(lambda p: ["build", f"--recipe={p.bundle}/onnx/target.onnx.data"], "data: not UTF-8"),
    "recipe: unknown key": recipe(RECIPE + "wings = 2", "recipe.toml: unknown key 'limits.wings'"),
    "recipe: missing key": recipe(RECIPE.replace("precision", "#"), "recipe.toml: missing key 'precision'"),
    "recipe: wrong type": recipe(RECIPE, "recipe.toml: limits.context_length: Input should be", context='"long"'),
    "recipe: unknown backend": recipe(RECIPE, "Invalid value for '--backend': 'nope'", backend="nope"),
    "recipe: export, missing key": recipe(RECIPE.replace("slots", "#"), "missing key 'limits.slots'", "export"),
    "recipe: context too short": recipe(RECIPE, "Invalid value for '--context-length': 8", context=8),
    "prompts: not there": prompts(None, "prompts.jsonl: not readable"),
    "prompts: none": prompts(b"\n \n", "prompts.jsonl: holds no prompt"),
    "prompts: no JSON": prompts(b'{"prompt": "a"}\n\nhello\n', "prompts.jsonl:3: not JSON: "),
    "prompts: no prompt": prompts(b'{"prompt": "a"}\n{"text": "b"}\n', "prompts.jsonl:2: no prompt in this line"),
    "prompts: empty prompt": prompts(b'{"prompt": " "}', "prompts.jsonl:1: no prompt in this line"),
    "prompts: longer than the context": prompts(
        b'{"prompt": "a"}\n\n{"prompt": "%s"}' % (b"x" * 96), "prompts.jsonl:3: the prompt has 113 tokens, the bundle's"
    ),
    "prompts: UTF-16": prompts(b"\xff\xfe", "prompts.jsonl: not UTF-8 text: it is marked as UTF-16"),
    "prompts: not text": prompts(b'{"prompt": "a"}\ncaf\xe9', "prompts.jsonl: not UTF-8 text: byte 0xe9 in line 2"),
    "prompts: nested deeply": prompts(b'{"prompt": ' + b"[" * 20_000, "prompts.jsonl:1: not JSON that can be read: it"),
    "prompts: half a character": prompts(b'{"prompt": "\\ud83d"}', "prompts.jsonl:1: half a character"),
}
