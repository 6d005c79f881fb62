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
    """`exclusive`: for a cohort that has the machine to itself. `shared[i]`: cohort i's own, while another is at work.

    Without `shared`, cohorts take turns on `exclusive`. Engines of a pool take each other's slots.
    """

    exclusive: Engines
    shared: tuple[Engines, ...] = ()

    def preload(self, slots: list[int]) -> None:
        """Load whatever steps of cohorts with so many slots can need."""
        pairs = [(self.exclusive, max(slots)), *zip(self.shared, slots, strict=False)]
        for engines, rows in pairs:
            engines.verify.preload(rows)
            engines.draft.preload(rows)


@contextmanager
def open_pool(
    bundle: Bundle, backend: str, exclusive: EngineOptions, shared: EngineOptions | None = None
) -> Iterator[EnginePool]:
    """Open `bundle`'s engines once, and with `shared` once more for each of two cohorts.

    Where both options are the same, the first cohort's own are those for who is alone. Raises what opening raises.
    """
    with ExitStack() as stack:

        def opened(options: EngineOptions) -> Engines:
            return stack.enter_context(get_backend(backend).open(bundle, options))

        first = opened(exclusive)
        if shared is None:
            yield EnginePool(first)
        elif shared == exclusive:
            yield EnginePool(first, (first, *(opened(shared) for _ in range(COHORTS - 1))))
        else:
            yield EnginePool(first, tuple(opened(shared) for _ in range(COHORTS)))
