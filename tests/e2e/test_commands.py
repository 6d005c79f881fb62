"""The commands as a user meets them: checkpoints to bundle to text, on a tiny pair."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from dspark_engines import open_bundle
from dspark_engines.bundle import Limits, RecipeInfo, sha256_file
from dspark_export import bundling
from dspark_export.bundling import BuildPlan
from dspark_export.commands.main import COMMANDS, cli
from dspark_export.named_path import NamedPath
from tests.support import tiny
from tests.support.command_line import Outcome, Place, generate, run
from tests.support.tiny_gguf import write_gguf_target

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]


def assert_sound_but_never_accepted(checked: Outcome) -> None:
    """Random drafters guess in vain: all comparisons hold, and identity says nothing about speculation."""
    report = checked.json
    assert all(comparison["passed"] for comparison in report["parity"])
    assert (report["identity"]["differences"], report["identity"]["accepted"]) == ([], 0)
    assert report["identity"]["drafted"] > 0
    assert (checked.code, report["outcome"]) == (2, "inconclusive")


def test_from_checkpoints_to_text(place: Place, capsys: Capture) -> None:
    built = run(capsys, *place.build(), "--json")
    assert (built.code, set(built.json)) == (0, {"bundle", "files", "bytes", "speculation"})
    output = place.root / "out"
    assert built.json["bundle"] == str(output)
    assert built.json["files"] == len(open_bundle(output).manifest.files)

    shown = run(capsys, "inspect", output)
    assert shown.code == 0
    stops = "stops on </s> (2, config.json)"
    for fact in (
        stops,
        "target: llama, 4 layers",
        "taps [0, 2]",
        "vanilla (rank 8)",
        "context 96",
        "onnx/target.onnx.data",
    ):
        assert fact in " ".join(re.sub("[│┃]", " ", shown.out).split())
    assert run(capsys, "inspect", output, "--json").json == json.loads((output / "manifest.json").read_text())

    report = generate(capsys, output, "--prompt=hello")
    assert len(report["token_ids"]) == 12

    checked = run(capsys, "check", output, "--limit=1", "--max-new-tokens=8", "--json")
    assert_sound_but_never_accepted(checked)


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
    assert len(generate(capsys, place.bundle, "--prompt=a")["token_ids"]) == 12


def test_compile_does_not_vouch_for_weights_that_changed(place: Place, capsys: Capture) -> None:
    """Large files are not hashed on opening, so their records must survive a compilation untouched."""
    place.patch.setattr("dspark_engines.bundle.open.CHEAP_BYTES", 1000)
    weights = place.bundle / "onnx" / "target.onnx.data"
    weights.write_bytes(weights.read_bytes()[::-1])
    assert run(capsys, "compile", place.bundle, "--overwrite").code == 0
    outcome = run(capsys, "check", place.bundle)
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
    assert_sound_but_never_accepted(
        run(capsys, "check", place.root / "out", "--limit=1", "--max-new-tokens=8", "--json")
    )


def test_recipe_and_what_overrides_it(place: Place, capsys: Capture) -> None:
    recipe = (ROOT / "engines" / "recipes" / "smollm2-cpu.toml").read_text()
    for name, path in (("target", place.target), ("drafter", place.drafter)):
        recipe = re.sub(rf'(\[{name}\]\npath = )"[^"]*"', rf'\1"{path}"', recipe)
    (place.root / "recipe.toml").write_text(re.sub("context_length = [0-9]+", "context_length = 80", recipe))
    plans: list[BuildPlan] = []
    manifest = open_bundle(place.tiny_bundle).manifest
    place.patch.setattr(bundling, "build_bundle", lambda plan, reporter: plans.append(plan) or manifest)
    arguments = [
        "build",
        f"--recipe={place.root}/recipe.toml",
        f"--output={place.root}/out",
        "--no-calibrate",
        "--no-measure",
    ]
    assert run(capsys, *arguments).code == 0
    assert run(capsys, *arguments, "--overwrite", "--context-length=64", "--slots=2", "--target=x").code == 0
    slots = plans[0].limits.slots
    plan = BuildPlan(
        place.target,
        place.drafter,
        place.root / "out",
        "onnxruntime",
        Limits(context_length=80, prefill_chunk=80, slots=slots),
        further=tuple(NamedPath(name, Path("examples/smollm2/drafters", name)) for name in ("dflash", "eagle3", "mtp")),
        recipe=place.root / "recipe.toml",
    )
    assert plans[0] == plan
    limits = Limits(context_length=64, prefill_chunk=64, slots=2)
    assert plans[1] == replace(plan, target=Path("x"), limits=limits, overwrite=True)
    assert run(capsys, "export", *arguments[1:-2], "--slots=2").code == 0
    assert plans[2] == replace(plan, backend=None, limits=plan.limits.model_copy(update={"slots": 2}))


def test_the_recipe_is_recorded(place: Place, capsys: Capture) -> None:
    place.patch.chdir(place.root)
    recipe = place.root / "mine.toml"
    recipe.write_text(
        'backend = "onnxruntime"\nprecision = "fp32"\n'
        f'target.path = "{place.target}"\ndrafter.path = "{place.drafter}"\n'
        "limits = {context_length = 96, prefill_chunk = 16, slots = 1}\n"
    )
    assert run(capsys, "export", "--recipe=mine.toml", "--output=out").code == 0
    found = open_bundle(place.root / "out").manifest.recipe
    assert found == RecipeInfo(name="mine.toml", sha256=sha256_file(recipe), source=str(recipe))
    assert f"mine.toml (sha256 {found.sha256[:12]})" in run(capsys, "inspect", "out").out
    assert open_bundle(place.tiny_bundle).manifest.recipe is None


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_defaults(capsys: Capture, command: str) -> None:
    outcome = run(capsys, command, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: dspark-export {command} [OPTIONS]")
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    options = [option for option in found.params if isinstance(option, click.Option)]
    shown = [option for option in options if isinstance(option.default, int | float | str) and not option.is_flag]
    assert all(option.opts[0] in outcome.out and option.help for option in options)
    for option in shown:
        assert re.search(rf"\[default: {option.default}[;\]]", " ".join(outcome.out.split())), option.name


def test_verify_is_check_by_its_older_name(capsys: Capture, tmp_path: Path) -> None:
    older, check = (run(capsys, name, tmp_path / "none") for name in ("verify", "check"))
    assert (older.code, older.err) == (check.code, check.err) == (2, check.err)
    assert "not a bundle" in older.err
    context = click.Context(cli)
    assert cli.get_command(context, "verify") is cli.get_command(context, "check")
    assert "check" in cli.list_commands(context)
    assert "verify" not in cli.list_commands(context)


def test_the_script_and_the_module_are_the_command() -> None:
    """`python cli.py …` from the repository is `dspark-export …`, and torch is not needed for it."""
    command = [sys.executable, "-X", "importtime", str(ROOT / "cli.py"), "generate", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Usage: dspark-export generate [OPTIONS] BUNDLE")
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "onnx", "gguf", "onnxscript", "transformers"}


def paths() -> list[tuple[str, click.Parameter]]:
    """Every option and argument that takes a path."""
    commands = {name: cli.get_command(click.Context(cli), name) for name in COMMANDS}
    parameters = [(name, parameter) for name, command in commands.items() if command for parameter in command.params]
    return [(name, parameter) for name, parameter in parameters if isinstance(parameter.type, click.Path)]


@pytest.mark.parametrize(("command", "parameter"), paths(), ids=lambda value: getattr(value, "name", value))
def test_a_name_that_is_not_utf8_is_refused(command: str, parameter: click.Parameter) -> None:
    """Graphs, the manifest and JSON cannot hold it."""
    context = click.Context(cli)
    with pytest.raises(click.BadParameter, match=r"caf\\xe9/x: the name is not UTF-8"):
        parameter.type.convert("caf\udce9/x", parameter, context)
    for name in ("my models", 'it\'s "quoted"', "模型 🙂", "line\nend", "-dash", "..", "a/../b/", "~", "é" * 127):
        assert parameter.type.convert(name, parameter, context) == Path(name)
