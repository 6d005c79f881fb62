"""A bundle of one target and several drafters: each is as it would be in a bundle of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dspark_engines import Bundle, GenerationRequest, Generator, open_bundle
from dspark_engines.backends import CompileOptions, EngineOptions, Engines, get_backend
from dspark_engines.bundle import Limits
from dspark_engines.errors import BackendError, BundleError
from dspark_export.bundling import BuildPlan, Silent, build_bundle, compile_bundle
from dspark_export.checks import compare_engines
from dspark_export.named_path import NamedPath
from tests.support import scripted, tiny
from tests.support.command_line import generate, run

LIMITS = Limits(context_length=96, prefill_chunk=16, slots=2)
PROMPTS = [[5, 6, 7, 8], [9, 3], list(range(4, 60))]
OTHER = replace(tiny.drafter_spec("none", confidence=False), target_layer_ids=(-1, 1, 2), block_size=3)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    target, drafter = scripted.write_pair(root)
    return {"target": target, "first": drafter, "other": tiny.write_drafter(root / "other", OTHER, seed=5)}


def build(checkpoints: dict[str, Path], output: Path, *names: str, **plan: object) -> Bundle:
    first, *further = names
    others = tuple(NamedPath("" if name == "other" else name, checkpoints["other"]) for name in further)
    fields = {"backend": "onnxruntime", "limits": LIMITS, "further": others} | plan
    build_bundle(BuildPlan(checkpoints["target"], checkpoints[first], output, **fields), Silent())  # type: ignore[arg-type]
    return open_bundle(output)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def both(
    request: pytest.FixtureRequest, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    return build(checkpoints, tmp_path_factory.mktemp("both") / "bundle", "first", "other", precision=request.param)


def test_a_further_drafter_is_called_as_its_method_where_nobody_names_it(both: Bundle) -> None:
    assert both.drafters == ("dspark", "dflash")
    assert [both.with_drafter(name).manifest.drafter.block_size for name in both.drafters] == [tiny.BLOCK, 3]
    assert both.with_drafter("dflash").with_drafter("dspark").manifest.drafter == both.manifest.drafter


def test_the_target_gives_the_taps_of_both(both: Bundle) -> None:
    features = next(tensor for tensor in both.manifest.graphs["target"].outputs if tensor.name == "features")
    assert features.shape[1] == 4 * tiny.HIDDEN  # -1, 0, 1, 2
    assert {both.with_drafter(name).manifest.drafter.feature_size for name in both.drafters} == {4 * tiny.HIDDEN}


@pytest.mark.parametrize("name", ["dspark", "dflash"])
def test_engines_and_graphs_agree(both: Bundle, name: str) -> None:
    view = both.with_drafter(name)
    with get_backend("onnxruntime").open(view, EngineOptions(1)) as engines:
        results = compare_engines(view, engines)
    assert [result for result in results if not result.passed] == []
    assert {result.what.partition(".")[0] for result in results} >= {"target", "drafter"}


@pytest.mark.parametrize("name", ["first", "other"])
def test_a_drafter_drafts_what_it_drafts_alone(
    both: Bundle, checkpoints: dict[str, Path], tmp_path: Path, name: str
) -> None:
    own = build(checkpoints, tmp_path / "own", name, precision=both.manifest.precision)
    view = both.with_drafter({"first": "dspark", "other": "dflash"}[name])
    for bundle in (own, view):
        assert bundle.manifest.drafter.called == view.manifest.drafter.called
    with (
        get_backend("onnxruntime").open(own, EngineOptions(1)) as mine,
        get_backend("onnxruntime").open(view, EngineOptions(1)) as its,
    ):
        pairs = [(outcome(own, mine, prompt), outcome(view, its, prompt)) for prompt in PROMPTS]
    assert all(a == b for a, b in pairs)


def outcome(bundle: Bundle, engines: Engines, prompt: list[int], *, speculate: bool = True) -> object:
    result = Generator(engines, bundle.manifest).run(GenerationRequest(prompt, 24, speculate))
    return result.token_ids, result.rounds


def test_drafters_share_the_target_s_engine_and_say_the_same(both: Bundle) -> None:
    backend, views = get_backend("onnxruntime"), [both.with_drafter(name) for name in ("dflash", "none")]
    with backend.open(both, EngineOptions(1)) as engines:
        plain = [outcome(both, engines, prompt, speculate=False)[0] for prompt in PROMPTS]  # type: ignore[index]
        for view in views:
            with backend.open(view, EngineOptions(1), verify=engines.verify) as others:
                assert others.verify is engines.verify
                assert [outcome(view, others, prompt)[0] for prompt in PROMPTS] == plain  # type: ignore[index]


def test_what_is_measured_through_a_drafter_has_its_own_place(both: Bundle) -> None:
    places = [both.with_drafter(name).file("calibration/sts.json") for name in ("dspark", "dflash", "ngram", "none")]
    folders = [place.parent.relative_to(both.path).as_posix() for place in places]
    assert folders == ["calibration", "calibration/dflash", "calibration/ngram", "calibration"]
    assert both.with_drafter("dflash").file("manifest.json") == both.path / "manifest.json"


def test_nobody_there_of_that_name(both: Bundle) -> None:
    with pytest.raises(BundleError, match="no drafter called 'eagle3'") as caught:
        both.with_drafter("eagle3")
    assert caught.value.hint == "it has dspark, dflash, ngram, none"


def test_engines_can_be_compiled_later(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    build(checkpoints, tmp_path / "bundle", "first", "second", backend=None)
    manifest = compile_bundle(tmp_path / "bundle", "onnxruntime", Silent(), overwrite=False)
    assert list(manifest.further_drafters[0].engines) == ["onnxruntime"]
    view = open_bundle(tmp_path / "bundle").with_drafter("second")
    with get_backend("onnxruntime").open(view, EngineOptions(1)) as engines:
        assert outcome(view, engines, PROMPTS[0])
    with pytest.raises(BackendError, match="takes one drafter a bundle, and 'second' is a second"):
        compile_bundle(tmp_path / "bundle", "onnxruntime-cuda", Silent(), overwrite=False, options=CompileOptions())


def test_on_the_command_line(checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
        backend = "onnxruntime"
        precision = "fp32"
        target = {{path = "{checkpoints["target"]}"}}
        drafter = {{path = "{checkpoints["first"]}"}}
        drafters.small = {{path = "{checkpoints["other"]}"}}
        limits = {{context_length = 96, prefill_chunk = 16, slots = 2}}
        """
    )
    output = tmp_path / "bundle"
    assert run(capsys, "build", f"--recipe={recipe}", f"--output={output}", "--no-measure").code == 0
    assert "drafter 'small'" in run(capsys, "inspect", output).out
    plain = generate(capsys, output, "--prompt=Hi", "--drafter=none", "--speculation=auto")
    ways = [generate(capsys, output, "--prompt=Hi", f"--drafter={name}") for name in ("dspark", "small")]
    assert {way["text"] for way in ways} == {plain["text"]}
    done = run(capsys, "check", output, "--limit=1", "--max-new-tokens=12", "--threads=1", "--json").json
    assert (done["drafter"], list(done["further_drafters"])) == ("dspark", ["small"])
    assert done["further_drafters"]["small"]["identity"]["differences"] == []
    assert run(capsys, "profile", output, "--drafter=small", "--seconds=0", "--rows=1", "--threads=1").code == 0
    assert (output / "calibration" / "small" / "cost_table.json").is_file()
