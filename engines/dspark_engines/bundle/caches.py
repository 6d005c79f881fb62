"""The caches of an exported graph: named in the graph's metadata and in the manifest, never guessed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

METADATA = "dspark.caches"
"""Key of a graph's metadata: a JSON list of [input, output]."""


class CacheSpec(NamedTuple):
    """One cache: a graph input [R, ..., C, ...] and the output that holds it after the step, in the same memory.

    R rows, C cells; all other extents are fixed.
    """

    input: str
    output: str

    def of_slot(self, slot: int) -> CacheSpec:
        """The same for one row of a graph that was lowered for slots."""
        return CacheSpec(f"{self.input}.{slot}", f"{self.output}.{slot}")

    def passed_on(self, slot: int, number: int) -> str:
        """The same where one node hands it on to the next inside such a graph, for the `number`th time from 0 on."""
        return f"{self.input}.{slot}.passed{number}"


def write_caches(caches: Iterable[CacheSpec]) -> dict[str, str]:
    """Metadata of a graph with these caches."""
    return {METADATA: json.dumps([list(cache) for cache in caches])}


def read_caches(metadata: Mapping[str, str], inputs: Iterable[str]) -> list[CacheSpec]:
    """The caches of a graph; older graphs say nothing of them, theirs have the names that they had then."""
    if METADATA in metadata:
        return [CacheSpec(*names) for names in json.loads(metadata[METADATA])]
    known = set(inputs)
    return [cache for cache in older_caches(len(known)) if cache.input in known]


def older_caches(layers: int) -> list[CacheSpec]:
    """What every graph of older versions had: keys and values of each layer."""
    kinds = ("key", "value")
    return [CacheSpec(f"{kind}_cache.{i}", f"{kind}_cache_out.{i}") for i in range(layers) for kind in kinds]


def cache_list(caches: Any) -> Any:
    """The manifest's entry; older manifests only count caches."""
    return older_caches(caches // 2) if isinstance(caches, int) and not isinstance(caches, bool) else caches
