"""`benchmarks/peers.py` against a stand-in for llama.cpp's server, which answers as that one does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dspark_engines.bundle import Limits
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from tests.support import tiny, tiny_gguf
from tests.support.command_line import Outcome

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # as for a script that stands there

import peers  # noqa: E402

SERVER = f"""#!{sys.executable}
import http.server, json, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "broken" in options["--model"] + options.get("--spec-draft-model", ""):
    sys.exit("error: unknown architecture")
drafts = int(options.get("--spec-draft-n-max", 0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({{"status": "ok"}})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked["temperature"] == 0 and not asked["cache_prompt"] and asked["return_tokens"]
        count = asked["n_predict"]
        accepted = (count - 1) // 2 if drafts else 0
        timings = {{"predicted_n": count, "predicted_ms": 100.0 / (1 + drafts)}}
        self.reply({{"tokens": list(range(count)), "timings": timings | {{"draft_n_accepted": accepted}}}})
    def reply(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_): ...
http.server.HTTPServer((options["--host"], int(options["--port"])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bundle`, the `target.gguf` that it was built from, `prompts.jsonl` and a `server`."""
    root = tmp_path_factory.mktemp("peers")
    target, drafter = tiny_gguf.write_gguf_target(root / "target.gguf"), tiny.write_drafter(root / "drafter")
    limits = Limits(context_length=96, prefill_chunk=16, slots=1)
    build_bundle(BuildPlan(target, drafter, root / "bundle", "onnxruntime", limits), Silent())
    lines = [json.dumps({"prompt": text, "source": source}) + "\n" for text, source in (("hello", "a"), ("you", "b"))]
    (root / "prompts.jsonl").write_text("".join(lines))
    (root / "server").write_text(SERVER)
    (root / "server").chmod(0o755)
    return root


def call(capsys: pytest.CaptureFixture[str], root: Path, *more: str) -> Outcome:
    arguments = [f"--llama-server={root / 'server'}", f"--target={root / 'target.gguf'}", "--threads=1"]
    capsys.readouterr()
    code = peers.run([str(root / "bundle"), *arguments, f"--prompts={root / 'prompts.jsonl'}", *more])
    return Outcome(code, *capsys.readouterr())


def test_both_stand_side_by_side(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drafting = ("--drafter=drafter.gguf", "--draft=3:0", "--draft=1:0.5", "--max-new-tokens=9")
    done = call(capsys, made, *drafting, "--json")
    assert done.code == 0, done.err
    speeds = done.json["tokens_per_second"]
    assert list(speeds) == [
        peers.PLAIN,
        peers.DEFAULT,
        peers.THEIRS,
        "llama.cpp, 3 drafts",
        "llama.cpp, 1 drafts, p ≥ 0.5",
    ]
    assert speeds[peers.THEIRS] == {"a": 80.0, "b": 80.0, "all": 80.0}  # 8 tokens after the first in 0.1 s
    assert speeds["llama.cpp, 3 drafts"]["all"] == pytest.approx(320.0)
    assert speeds[peers.PLAIN]["all"] > 0
    assert list(done.json["ratios"])[2] == "default ÷ their best draft-dspark (llama.cpp, 3 drafts)"
    shown = call(capsys, made, *drafting).out
    assert "│ 2.00" in shown  # four of eight tokens accepted: two a round
    assert "default ÷ their plain: " in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--draft=five", "--drafter=d.gguf"), "'five' is not TOKENS:PROBABILITY"),
        (("--target=other.gguf",), "other.gguf: not the GGUF file that this bundle's target was read from"),
        (("--llama-server=missing",), "missing: No such file or directory"),
        (("--drafter=broken.gguf",), "llama-server did not start: error: unknown architecture"),
    ],
)
def test_what_does_not_go_is_said(
    made: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = call(capsys, made, *arguments)
    assert done.code == 2
    assert said in done.err
