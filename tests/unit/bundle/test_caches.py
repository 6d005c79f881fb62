"""Caches of a graph: named in its metadata and in the manifest; older ones have the names that they had then."""

from __future__ import annotations

from dspark_engines.bundle.caches import CacheSpec, read_caches, write_caches
from dspark_engines.bundle.manifest import GraphInfo

LATENT = CacheSpec("latent.0", "latent.0.after")


def test_a_graph_names_its_caches() -> None:
    assert read_caches(write_caches([LATENT]), ["features", "latent.0", "key_cache.0"]) == [LATENT]
    assert read_caches(write_caches([]), ["key_cache.0"]) == []


def test_an_older_graph_has_the_names_of_then() -> None:
    names = [f"{kind}_cache.{layer}" for layer in (0, 1) for kind in ("key", "value")]
    found = read_caches({}, ["token_ids", *names, "used"])
    assert [cache.input for cache in found] == names
    assert [cache.output for cache in found] == [name.replace("_cache", "_cache_out") for name in names]


def test_the_manifest_keeps_them_and_reads_an_older_count() -> None:
    entry = {"path": "onnx/target.onnx", "inputs": [], "outputs": []}
    made = GraphInfo(**entry, caches=[LATENT])
    assert GraphInfo.model_validate_json(made.model_dump_json()) == made
    older = GraphInfo.model_validate(entry | {"caches": 4})
    assert older.caches[3] == CacheSpec("value_cache.1", "value_cache_out.1")


def test_a_slots_cache_has_its_number_behind() -> None:
    assert LATENT.of_slot(2) == CacheSpec("latent.0.2", "latent.0.after.2")
