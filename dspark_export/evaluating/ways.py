"""The ways of decoding that take turns: plainly, and with each drafter of each bundle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dspark_engines.backends import get_backend
from dspark_engines.bundle import NGRAM, NONE, Bundle, engine_identity
from dspark_engines.errors import BundleError

Role = Literal["plain", "control", "drafter"]
Mode = Literal["greedy", "sampled"]
PLAIN, CONTROL = "plain", "plain again"
"""Plain decoding of the first bundle, which all others are set against; and once more, against itself."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """`bundle` is seen through `drafter`; plain ways ("none") see it as the first of its drafters does, whose engines
    they share. `place` is the bundle's among those given, `identity` what its engines compute."""

    name: str
    role: Role
    bundle: Bundle
    drafter: str
    place: int
    identity: str

    @property
    def speculates(self) -> bool:
        """Whether a drafter takes part."""
        return self.role == "drafter"

    @property
    def block_size(self) -> int:
        """Draft tokens a round; 0 of plain decoding."""
        return self.bundle.manifest.drafter.block_size if self.speculates else 0


def choose_ways(bundles: Sequence[Bundle], backend: str, wanted: Sequence[str] = ()) -> list[Way]:
    """Plain decoding twice, then every bundle's drafters, or `wanted` of them; prompt lookup counts as one.

    Prompt lookup is no part of a bundle, so the first alone has it. Of a further bundle plain decoding comes as well:
    it says by how much its engines differ from the first's in speed. Raises `BundleError` for a name that no bundle
    has, naming those there are.
    """
    lookup = [NGRAM] if get_backend(backend).several_drafters else []
    named = [[*bundle.drafters, *([] if place else lookup)] for place, bundle in enumerate(bundles)]
    _check_names(bundles, [name for names in named for name in names], wanted)
    ways: list[Way] = []
    for place, (bundle, names) in enumerate(zip(bundles, named, strict=True)):
        chosen = [name for name in names if not wanted or name in wanted]
        prefix = f"{_labels(bundles)[place]}/" if len(bundles) > 1 or PLAIN in names else ""
        if chosen or not place:
            ways += _of_bundle(bundle, backend, chosen, place, prefix)
    return sorted(ways, key=lambda way: way.speculates)


def _check_names(bundles: Sequence[Bundle], known: Sequence[str], wanted: Sequence[str]) -> None:
    where = ", ".join(str(bundle.path) for bundle in bundles)
    listed = ", ".join(dict.fromkeys(known))
    for name in wanted:
        if name not in known:
            raise BundleError(f"{where}: no drafter called '{name}'", hint=f"there are: {listed or 'none'}")
    if not known:
        raise BundleError(f"{where}: has no drafter, so there is nothing to compare", hint="build it with --drafter")


def _of_bundle(bundle: Bundle, backend: str, names: Sequence[str], place: int, prefix: str) -> list[Way]:
    identity = engine_identity(bundle.stored, backend)

    def way(name: str, role: Role, drafter: str) -> Way:
        view = bundle.with_drafter(names[0] if drafter == NONE and names else drafter)
        return Way(name=name, role=role, bundle=view, drafter=drafter, place=place, identity=identity)

    plain = [way(PLAIN, "plain", NONE), way(CONTROL, "control", NONE)]
    if place:
        plain = [way(f"{prefix}{PLAIN}", "control", NONE)]
    return [*plain, *(way(f"{prefix}{name}", "drafter", name) for name in names)]


def _labels(bundles: Sequence[Bundle]) -> list[str]:
    """The folders' names; whole paths where two are the same."""
    names = [bundle.path.resolve().name for bundle in bundles]
    counts = Counter(names)
    return [name if counts[name] == 1 else str(bundle.path) for bundle, name in zip(bundles, names, strict=True)]
