"""The commands as a user meets them: checkpoints to bundle to text, on a tiny pair."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dspark_engines import open_bundle
from dspark_engines.bundle import Limits
from dspark_export import bundling
from dspark_export.bundling import BuildPlan
from dspark_export.commands.main import COMMANDS
from tests.support import tiny
from tests.support.command_line import Place, run
from tests.support.tiny_gguf import write_gguf_target

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]
REPORT = {
    "text",
    "token_ids",
    "stop",
    "rounds",
    "accepted_length",
    "accepted_per_position",
    "tokens_per_second",
    "seconds",
}


@pytest.fixture
def place(tmp_path: Path, tiny_pair: tuple[Path, Path], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, tiny_pair, tiny_bundle, monkeypatch)


@pytest.fixture(autouse=True)
def _restore_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def generate(capsys: Capture, bundle: Path, *options: str) -> dict[str, object]:
    """The JSON report of a short generation."""
    outcome = run(capsys, "generate", bundle, "--max-new-tokens=12", "--json", *options)
    assert outcome.code == 0
    report: dict[str, object] = outcome.json
    return report


def test_from_checkpoints_to_text(place: Place, capsys: Capture) -> None:
    built = run(capsys, *place.build(), "--json")
    assert (built.code, set(built.json)) == (0, {"bundle", "files", "bytes"})
    output = place.root / "out"
    assert built.json["bundle"] == str(output)
    assert built.json["files"] == len(open_bundle(output).manifest.files)

    shown = run(capsys, "inspect", output)
    assert shown.code == 0
    for fact in ("target: llama, 4 layers", "taps [0, 2]", "vanilla (rank 8)", "context 96", "onnx/target.onnx.data"):
        assert fact in " ".join(re.sub("[│┃]", " ", shown.out).split())
    assert run(capsys, "inspect", output, "--json").json == json.loads((output / "manifest.json").read_text())

    report = generate(capsys, output, "--prompt=hello")
    assert len(report["token_ids"]) == 12  # type: ignore[arg-type]

    checked = run(capsys, "verify", output, "--limit=1", "--max-new-tokens=8")
    assert (checked.code, checked.out.splitlines()[-1]) == (0, "the bundle holds")


def test_export_then_compile_is_build(place: Place, capsys: Capture) -> None:
    output = place.root / "out"
    arguments = place.build()[1:]
    assert run(capsys, "export", *arguments).code == 0
    assert open_bundle(output).manifest.backends == []
    assert "none: add them with dspark-export compile" in run(capsys, "inspect", output).out
    compiled = run(capsys, "compile", output, "--json")
    assert (compiled.code, compiled.json["backend"]["name"]) == (0, "onnxruntime")
    built = place.root / "built"
    assert run(capsys, *place.build(output=built)).code == 0
    one, other = (open_bundle(path).manifest for path in (output, built))
    assert one.model_copy(update={"created": other.created}) == other
    assert not list(output.rglob("*.partial"))


def test_compile_replaces_engines_when_told_to(place: Place, capsys: Capture) -> None:
    before = open_bundle(place.bundle).manifest
    refused = run(capsys, "compile", place.bundle)
    assert (refused.code, "--overwrite" in refused.err) == (2, True)
    assert run(capsys, "compile", place.bundle, "--overwrite").code == 0
    assert open_bundle(place.bundle).manifest == before
    assert len(generate(capsys, place.bundle, "--prompt=a")["token_ids"]) == 12  # type: ignore[arg-type]


def test_compile_does_not_vouch_for_weights_that_changed(place: Place, capsys: Capture) -> None:
    """Large files are not hashed on opening, so their records must survive a compilation untouched."""
    place.patch.setattr("dspark_engines.bundle.open.CHEAP_BYTES", 1000)
    weights = place.bundle / "onnx" / "target.onnx.data"
    weights.write_bytes(weights.read_bytes()[::-1])
    assert run(capsys, "compile", place.bundle, "--overwrite").code == 0
    outcome = run(capsys, "verify", place.bundle)
    assert (outcome.code, "target.onnx.data: content differs" in outcome.err) == (2, True)


def test_build_replaces_a_bundle_when_told_to(place: Place, capsys: Capture) -> None:
    assert run(capsys, *place.build(output=place.bundle, overwrite=True, context_length=64)).code == 0
    assert open_bundle(place.bundle).manifest.limits.context_length == 64


def test_gguf_target_gives_the_same_text(place: Place, capsys: Capture) -> None:
    """The same weights in the other dialect, with q and k permuted: the same tokens."""
    target = write_gguf_target(place.root / "target.gguf", **{"tokenizer.ggml.merges": ["1 2"]})
    assert run(capsys, *place.build(target=target)).code == 0
    reports = [generate(capsys, bundle, "--prompt=hello there") for bundle in (place.root / "out", place.tiny_bundle)]
    assert reports[0]["token_ids"] == reports[1]["token_ids"]


@pytest.mark.parametrize("kind", ["none", "gated", "rnn"])
def test_every_head_from_qwen3(place: Place, capsys: Capture, kind: str) -> None:
    target = tiny.write_target(place.root / "qwen3", tiny.target_spec("qwen3", tied=False))
    drafter = tiny.write_drafter(place.root / kind, tiny.drafter_spec(kind))
    assert run(capsys, *place.build(target=target, drafter=drafter)).code == 0
    assert run(capsys, "verify", place.root / "out", "--limit=1", "--max-new-tokens=8").code == 0


def test_recipe_and_what_overrides_it(place: Place, capsys: Capture) -> None:
    recipe = (ROOT / "engines" / "recipes" / "smollm2-cpu.toml").read_text()
    for name, path in (("target", place.target), ("drafter", place.drafter)):
        recipe = re.sub(rf'(\[{name}\]\npath = )"[^"]*"', rf'\1"{path}"', recipe)
    (place.root / "recipe.toml").write_text(re.sub("context_length = [0-9]+", "context_length = 80", recipe))
    plans: list[BuildPlan] = []
    manifest = open_bundle(place.tiny_bundle).manifest
    place.patch.setattr(bundling, "build_bundle", lambda plan, reporter: plans.append(plan) or manifest)
    arguments = ["build", f"--recipe={place.root}/recipe.toml", f"--output={place.root}/out"]
    assert run(capsys, *arguments).code == 0
    assert run(capsys, *arguments, "--overwrite", "--context-length=64", "--slots=2", "--target=x").code == 0
    slots = plans[0].limits.slots
    plan = BuildPlan(
        place.target,
        place.drafter,
        place.root / "out",
        "onnxruntime",
        Limits(context_length=80, prefill_chunk=80, slots=slots),
    )
    assert plans[0] == plan
    limits = Limits(context_length=64, prefill_chunk=64, slots=2)
    assert plans[1] == replace(plan, target=Path("x"), limits=limits, overwrite=True)


def test_report_keys(tiny_bundle: Path, capsys: Capture) -> None:
    outcome = run(capsys, "generate", tiny_bundle, "--prompt=hello", "--max-new-tokens=12", "--json")
    assert len(outcome.out.splitlines()) == 1
    report = outcome.json
    assert set(report) == REPORT
    assert set(report["seconds"]) == {"prefill", "draft", "verify", "other"}
    assert (report["stop"], len(report["token_ids"])) == ("length", 12)
    assert len(report["accepted_per_position"]) == tiny.BLOCK
    assert report["accepted_length"] * report["rounds"] == pytest.approx(11)  # the first token is prefill's
    assert min(report["seconds"].values()) >= 0
    assert report["tokens_per_second"] > 0


def test_streamed_text_is_the_reports(tiny_bundle: Path, capsys: Capture) -> None:
    options = ("--prompt=hello", "--max-new-tokens=40")
    streamed = run(capsys, "generate", tiny_bundle, *options)
    report = run(capsys, "generate", tiny_bundle, *options, "--json").json
    assert (streamed.code, streamed.out) == (0, report["text"] + "\n")
    assert re.search(r"^40 tokens in \d+ rounds, accepted length \d", streamed.err)


@pytest.mark.parametrize("options", [(), ("--raw",)], ids=["chat", "raw"])
def test_without_speculation_the_same_tokens(tiny_bundle: Path, capsys: Capture, options: tuple[str, ...]) -> None:
    for prompt in ("hello", "x", "def f(x):\n    return"):
        fast = generate(capsys, tiny_bundle, f"--prompt={prompt}", *options)
        plain = generate(capsys, tiny_bundle, f"--prompt={prompt}", "--no-speculation", *options)
        assert fast["token_ids"] == plain["token_ids"]
        assert (plain["accepted_length"], plain["rounds"]) == (1.0, 11)


def test_prompts_from_everywhere(place: Place, tiny_bundle: Path, capsys: Capture) -> None:
    (place.root / "prompt.txt").write_text("hé llo\n two", "utf-8")
    place.patch.setattr(sys, "stdin", io.StringIO("hé llo\n two"))
    sources = [(), ("--prompt", "hé llo\n two"), ("--prompt-file", str(place.root / "prompt.txt"))]
    assert len({str(generate(capsys, tiny_bundle, *source)["token_ids"]) for source in sources}) == 1


def test_raw_leaves_the_template_out(place: Place, capsys: Capture) -> None:
    written = "user: hello\nassistant:"  # what the template makes of it
    chat, raw, other = (
        generate(capsys, place.tiny_bundle, *options)["token_ids"]
        for options in (("--prompt=hello",), (f"--prompt={written}", "--raw"), ("--prompt=hello", "--raw"))
    )
    assert chat == raw != other
    broken = place.bundle / "tokenizer" / "chat_template.jinja"
    broken.unlink()
    manifest = json.loads((place.bundle / "manifest.json").read_text())
    manifest["files"] = [file for file in manifest["files"] if not file["path"].endswith(".jinja")]
    (place.bundle / "manifest.json").write_text(json.dumps(manifest))
    assert generate(capsys, place.bundle, "--prompt=hello", "--raw")["token_ids"] == other
    refused = run(capsys, "generate", place.bundle, "--prompt=hello")
    assert (refused.code, "no chat template" in refused.err, "--raw" in refused.err) == (2, True, True)


def test_a_bundle_may_be_moved_and_named_relatively(place: Place, capsys: Capture) -> None:
    expected = generate(capsys, place.tiny_bundle, "--prompt=hello")["token_ids"]
    shutil.move(place.bundle, place.root / "moved here")
    place.patch.chdir(place.root)
    assert generate(capsys, Path("moved here"), "--prompt=hello")["token_ids"] == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_defaults(capsys: Capture, command: str) -> None:
    outcome = run(capsys, command, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: dspark-export {command} [OPTIONS]")
    text = " ".join(outcome.out.split())
    for option, default in (("--backend", "onnxruntime"), ("--context-length", "2048"), ("--max-new-tokens", "")):
        if option in text and not (command == "profile" and option == "--context-length"):
            assert re.search(rf"{option} .*?\[default: {default}", text)


def test_the_script_and_the_module_are_the_command() -> None:
    """`python cli.py …` from the repository is `dspark-export …`, and torch is not needed for it."""
    command = [sys.executable, "-X", "importtime", str(ROOT / "cli.py"), "generate", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Usage: dspark-export generate [OPTIONS] BUNDLE")
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "onnx", "gguf", "onnxscript", "transformers"}
