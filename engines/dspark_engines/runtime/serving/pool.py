"""The engines that the cohorts of a runtime run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.bundle import Bundle

COHORTS = 2


@dataclass(frozen=True)
class EnginePool:
    """`alone`: for a cohort that has the machine to itself. `beside[i]`: cohort i's own, while another is at work.

    Without `beside`, cohorts take turns on `alone`. Engines of a pool take each other's slots.
    """

    alone: Engines
    beside: tuple[Engines, ...] = ()

    def preload(self, places: list[int]) -> None:
        """Load whatever steps of cohorts with so many places can need."""
        pairs = [(self.alone, max(places)), *zip(self.beside, places, strict=False)]
        for engines, rows in pairs:
            engines.verify.preload(rows)
            engines.draft.preload(rows)


@contextmanager
def open_pool(
    bundle: Bundle, backend: str, alone: EngineOptions, beside: EngineOptions | None = None
) -> Iterator[EnginePool]:
    """Open `bundle`'s engines once, and with `beside` once more for each of two cohorts.

    Where both options are the same, the first cohort's own are those for who is alone. Raises what opening raises.
    """
    with ExitStack() as stack:

        def opened(options: EngineOptions) -> Engines:
            return stack.enter_context(get_backend(backend).open(bundle, options))

        first = opened(alone)
        if beside is None:
            yield EnginePool(first)
        elif beside == alone:
            yield EnginePool(first, (first, *(opened(beside) for _ in range(COHORTS - 1))))
        else:
            yield EnginePool(first, tuple(opened(beside) for _ in range(COHORTS)))
