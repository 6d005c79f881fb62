"""`generate` as a user meets it: the report, the stream, where prompts come from."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.support import tiny
from tests.support.command_line import Place, generate, run

Capture = pytest.CaptureFixture[str]
REPORT = {
    "text",
    "token_ids",
    "stop",
    "rounds",
    "accepted_length",
    "accepted_per_position",
    "tokens_per_second",
    "seconds",
    "run",
}


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
    run_, rounds = report["run"], report["rounds"]
    assert (run_["requests"], run_["tokens"], run_["rounds"]) == (1, 12, rounds)
    assert (run_["scheduler"], run_["cohorts"]) == ("fixed", [1])
    assert "one request at a time" in run_["cohorts_reason"]
    assert set(run_["idle_share"]) == {"draft", "verify"}
    assert sum(run_["idle_share"].values()) >= 1 - 1e-9  # engines that take turns
    assert run_["overlap_seconds"] == 0


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
    place.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("hé llo\n two".encode())))
    sources = [(), ("--prompt", "hé llo\n two"), ("--prompt-file", str(place.root / "prompt.txt"))]
    assert len({str(generate(capsys, tiny_bundle, *source)["token_ids"]) for source in sources}) == 1


@pytest.mark.parametrize(("text", "prompt"), [("hello\n", "hello"), ("hello\n\n", "hello\n"), ("a\r\n", "a")])
def test_one_newline_at_the_end_is_dropped(place: Place, capsys: Capture, text: str, prompt: str) -> None:
    """Of what `echo` writes and of a file; what stands on the command line is taken to the letter."""

    def ids(*options: str) -> list[int]:
        place.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8"))
        found: list[int] = generate(capsys, place.tiny_bundle, "--raw", *options)["token_ids"]
        return found

    (place.root / "prompt.txt").write_text(text, "utf-8", newline="")
    expected = ids("--prompt", prompt)
    assert ids() == expected
    assert ids("--prompt-file", str(place.root / "prompt.txt")) == expected
    assert ids("--prompt", prompt + "\n") != expected


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
