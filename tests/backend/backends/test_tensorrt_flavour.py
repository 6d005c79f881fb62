"""The flavour `tensorrt`, up to the library's own work, which needs a GPU: a library of names plays it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dspark_engines.backends import CompileOptions
from dspark_engines.backends.tensorrt.building import plugins as building_plugins
from dspark_engines.bundle import Bundle, EngineInfo, open_bundle
from dspark_engines.errors import BackendError
from dspark_export.bundling import Silent, compile_bundle
from tests.backend.backends.test_engines import build
from tests.support import tiny
from tests.support.command_line import run
from tests.support.fake_tensorrt import FakeTensorRt, engine_report, install

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="triton is for Linux")
CHAIN = ["MarkovScores", "MarkovPick"] * tiny.BLOCK
ACCEPTING = ["AcceptScan", "AcceptPrefix", "AcceptWeigh", "AcceptDraw"]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return build(tmp_path, 2)


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    pytest.importorskip("triton", reason="the extra [kernels] is not installed")
    return install(monkeypatch)


def compiled(bundle: Bundle, **options: Any) -> dict[str, EngineInfo]:
    compile_bundle(bundle.path, "tensorrt", Silent(), overwrite=True, options=CompileOptions(**options))
    info = next(info for info in open_bundle(bundle.path).manifest.backends if info.name == "tensorrt")
    return {engine.role: engine for engine in info.engines}


def test_plugins_are_the_default(bundle: Bundle, trt: FakeTensorRt) -> None:
    engines = compiled(bundle)
    plugins = {role: engine.plugins for role, engine in engines.items()}
    assert plugins == {"verify": [], "draft": ["MarkovHead"], "accept": ["Accept"]}
    assert {engine.compute_capability for engine in engines.values()} == {"9.0"}
    nodes = [[node for node in model.graph.node if node.domain] for model in trt.parsed]
    assert [[node.op_type for node in some] for some in nodes] == [[], CHAIN, ACCEPTING]
    for node in nodes[1] + nodes[2]:
        values = {attribute.name: attribute for attribute in node.attribute}
        assert values["plugin_namespace"].s == b"dspark"
        assert values["compute_capability"].i == 90
    assert [list(model.functions) for model in trt.parsed] == [[], [], []]


def test_plugins_are_registered_before_anything_is_parsed(bundle: Bundle, trt: FakeTensorRt) -> None:
    compiled(bundle)
    first = trt.events.index("parse")
    assert set(trt.events[first:]) == {"parse", "build"}
    registered = [event.removeprefix("register ") for event in trt.events if event.startswith("register ")]
    assert len(registered) == len(set(registered)) == 12
    assert {f"kernel of {name}" for name in registered} <= set(trt.events[:first])
    assert {"dspark::MarkovPickGreedy", "dspark::AcceptDraw"} <= set(registered)


def test_no_plugins(bundle: Bundle, trt: FakeTensorRt) -> None:
    engines = compiled(bundle, plugins=False)
    assert [engine.plugins for engine in engines.values()] == [[], [], []]
    assert {node.domain for model in trt.parsed for node in model.graph.node} == {""}
    assert trt.registry == {}


def test_greedy_drafts(bundle: Bundle, trt: FakeTensorRt, capsys: pytest.CaptureFixture[str]) -> None:
    engines = compiled(bundle, greedy_drafts=True)
    greedy = {role: engine.greedy_drafts for role, engine in engines.items()}
    assert greedy == {"verify": False, "draft": True, "accept": True}
    _, drafter, accept = (model.graph for model in trt.parsed)
    for graph, chain in ((drafter, CHAIN), (accept, ACCEPTING[:2])):
        assert [node.op_type for node in graph.node if node.domain] == [f"{op}Greedy" for op in chain]
        assert not {"temperature", "uniforms", "draft_logits"} & {value.name for value in graph.input}
    assert "draft_logits" not in {value.name for value in drafter.output}
    shown = run(capsys, "inspect", bundle.path).out
    assert "plugins for MarkovHead, greedy drafts only" in " ".join(shown.replace("│", " ").split())


def test_the_builder_is_told_what_this_flavour_takes(bundle: Bundle, trt: FakeTensorRt) -> None:
    compiled(bundle)
    assert [config.profiles for config in trt.configs] == [3, 3, 2]  # for one row, two, and long rows if there are any
    assert all(config.cleared == [trt.BuilderFlag.TF32] for config in trt.configs)


def test_the_layer_report_is_the_inspectors(bundle: Bundle, trt: FakeTensorRt) -> None:
    compiled(bundle)
    expected = {"source": "engine inspector", "Layers": ["fused"], "Bindings": []}
    assert [engine_report(bundle.path, role) for role in ("verify", "draft", "accept")] == [expected] * 3


def test_the_layer_report_without_an_inspector_names_the_plugins(
    bundle: Bundle, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "dspark_engines.backends.tensorrt.building.build"
    monkeypatch.setattr(f"{module}.engine_report", lambda *arguments: None)
    compiled(bundle)
    report = engine_report(bundle.path, "draft")
    assert (report["source"], report["layers"]["PLUGIN_V3"]) == ("network", len(CHAIN))
    names = [node.name for node in trt.parsed[1].graph.node if node.domain]
    assert report["plugins"] == names
    assert len(set(names)) == len(CHAIN)


def test_a_plugin_that_the_parser_does_not_find_is_an_error(
    bundle: Bundle, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would run the body of the same name, if there were one."""
    with pytest.raises(BackendError, match=r"refuses node '.*' \(MarkovScores\): No importer registered"):
        compiled_without_registry(bundle, trt, monkeypatch)


def compiled_without_registry(bundle: Bundle, trt: FakeTensorRt, patch: pytest.MonkeyPatch) -> None:
    def forget(flavour: object) -> None:
        trt.registry.clear()

    patch.setattr("dspark_engines.backends.tensorrt.building.build.register_plugins", forget)
    compiled(bundle)


def test_layers_that_are_no_plugins_are_counted(
    bundle: Bundle, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspark_engines.backends.tensorrt.building.build.drop_bodies", lambda model: None)
    with pytest.raises(BackendError, match=f"made 0 plugin layers of {len(CHAIN)} plugin nodes"):
        compiled_without_registry(bundle, trt, monkeypatch)


@pytest.mark.parametrize("section", ["engines", "tensorrt"])  # the second in older recipes
def test_the_recipe_says_it_too(
    bundle: Bundle, tmp_path: Path, trt: FakeTensorRt, capsys: pytest.CaptureFixture[str], section: str
) -> None:
    recipe = f"""
backend = "tensorrt"
precision = "fp32"
target.path = "{tmp_path}/target"
drafter.path = "{tmp_path}/drafter"
[limits]
context_length = 48
prefill_chunk = 16
slots = 1
[{section}]
plugins = false
greedy_drafts = true
"""
    (tmp_path / "recipe.toml").write_text(recipe)
    arguments = ("build", "--recipe", tmp_path / "recipe.toml", "--output", tmp_path / "out", "--no-measure")
    assert run(capsys, *arguments).code == 0
    assert run(capsys, *arguments, "--plugins", "--sampled-drafts", "--overwrite").code == 0
    flags = [[node.op_type for node in model.graph.node if node.domain] for model in trt.parsed]
    assert flags == [[], [], [], [], CHAIN, ACCEPTING]
    engines = json.loads((tmp_path / "out/manifest.json").read_text())["backends"][0]["engines"]
    assert [(engine["plugins"], engine["greedy_drafts"]) for engine in engines] == [
        ([], False),
        (["MarkovHead"], False),
        (["Accept"], False),
    ]


@pytest.mark.parametrize(("capability", "expected"), [("7.5", False), ("8.0", True), ("12.0", True)])
def test_old_gpus_get_none(trt: FakeTensorRt, capability: str, expected: bool) -> None:
    from dspark_engines.backends.tensorrt.flavours import RTX, TENSORRT

    assert building_plugins.choose_plugins(TENSORRT, capability, None) is expected
    assert building_plugins.choose_plugins(RTX, capability, None) is False
