"""Which ways take turns, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspark_engines.bundle import NO_DRAFTER, Bundle, DrafterSection, GraphInfo, Manifest
from dspark_engines.errors import BundleError
from dspark_export.evaluating.run import _rotated
from dspark_export.evaluating.ways import Way, choose_ways

GRAPH = GraphInfo(path="onnx/target.onnx", inputs=[], outputs=[], caches=[])


def bundle(path: str, *drafters: str) -> Bundle:
    infos = [NO_DRAFTER.model_copy(update={"label": name, "method": "dspark", "block_size": 4}) for name in drafters]
    sections = [DrafterSection(drafter=info, graphs={}, engines={}) for info in infos[1:]]
    manifest = Manifest.model_construct(
        drafter=infos[0] if infos else NO_DRAFTER,
        further_drafters=sections,
        graphs={"target": GRAPH},
        backends=[],
        files=[],
    )
    return Bundle(Path(path), manifest)


def named(*bundles: Bundle, backend: str = "onnxruntime", wanted: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    return [(way.name, way.role, way.drafter) for way in choose_ways(bundles, backend, wanted)]


PLAIN = [("plain", "plain", "none"), ("plain again", "control", "none")]


def test_one_bundle_has_all_its_drafters_and_prompt_lookup() -> None:
    assert named(bundle("a", "dspark", "eagle3")) == [
        *PLAIN, ("dspark", "drafter", "dspark"), ("eagle3", "drafter", "eagle3"), ("ngram", "drafter", "ngram"),
    ]  # fmt: skip


def test_backends_that_draft_with_engines_alone_go_without_prompt_lookup() -> None:
    assert named(bundle("a", "dspark"), backend="tensorrt") == [*PLAIN, ("dspark", "drafter", "dspark")]


def test_drafters_can_be_chosen_by_name() -> None:
    assert named(bundle("a", "dspark", "eagle3"), wanted=("ngram", "eagle3")) == [
        *PLAIN, ("eagle3", "drafter", "eagle3"), ("ngram", "drafter", "ngram"),
    ]  # fmt: skip


def test_of_several_bundles_each_has_its_own_plain_decoding_and_one_has_prompt_lookup() -> None:
    assert named(bundle("x/a", "dspark"), bundle("x/b", "dspark")) == [
        *PLAIN, ("b/plain", "control", "none"),
        ("a/dspark", "drafter", "dspark"), ("a/ngram", "drafter", "ngram"), ("b/dspark", "drafter", "dspark"),
    ]  # fmt: skip


def test_folders_of_one_name_are_told_apart_by_their_paths() -> None:
    names = [name for name, role, _ in named(bundle("x/a", "dspark"), bundle("y/a", "dspark")) if role == "drafter"]
    assert names == ["x/a/dspark", "x/a/ngram", "y/a/dspark"]


def test_a_drafter_of_the_second_bundle_alone_is_set_against_the_first_ones_plain_decoding() -> None:
    found = named(bundle("x/a", "dspark"), bundle("x/b", "eagle3"), wanted=("eagle3",))
    assert found == [*PLAIN, ("b/plain", "control", "none"), ("b/eagle3", "drafter", "eagle3")]


def test_a_drafter_called_plain_is_not_taken_for_plain_decoding() -> None:
    assert named(bundle("x/a", "plain"), wanted=("plain",)) == [*PLAIN, ("a/plain", "drafter", "plain")]


def test_unknown_names_are_refused_and_those_there_are_listed() -> None:
    with pytest.raises(BundleError, match="no drafter called 'nope'") as caught:
        named(bundle("a", "dspark"), bundle("b", "dspark", "eagle3"), wanted=("nope",))
    assert caught.value.hint == "there are: dspark, ngram, eagle3"
    with pytest.raises(BundleError, match="has no drafter"):
        named(bundle("a"), backend="tensorrt")


def test_everyone_begins_as_often_and_follows_everyone() -> None:
    ways: list[Way] = choose_ways([bundle("a", "dspark", "eagle3")], "onnxruntime")
    orders = [[way.name for way in _rotated(ways, number)] for number in range(2 * len(ways))]
    for name in (way.name for way in ways):
        places = [order.index(name) for order in orders]
        assert sorted(places) == sorted(2 * list(range(len(ways))))
