"""Loaded engines put together: who reads whose memory on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from dspark_engines.backends.engine import Engines
from dspark_engines.backends.tensorrt.execution.deciding import TrtDecider
from dspark_engines.backends.tensorrt.execution.engines import TrtDraftEngine, TrtVerifyEngine
from dspark_engines.backends.tensorrt.execution.keeping import LogitStore
from dspark_engines.backends.tensorrt.execution.program import TrtProgram
from dspark_engines.backends.tensorrt.shapes import RoleShapes
from dspark_engines.bundle import Role


class Loaded(NamedTuple):
    """A deserialized engine, the shapes it was built for, and whether it serves greedy rows only."""

    engine: Any
    shapes: RoleShapes
    greedy: bool


@contextmanager
def assemble(trt: Any, loaded: Mapping[Role, Loaded]) -> Iterator[Engines]:
    """Both engines for the duration of a `with` block, all memory given back behind it.

    The one that decides reads the target's logits where they are put out, and draft logits where they are laid out
    for it. Without it, in bundles of before there was one, the host decides.
    """
    with ExitStack() as stack:

        def program(role: Role, **outside: int) -> TrtProgram:
            made = TrtProgram(trt, loaded[role].engine, loaded[role].shapes, outside)
            stack.callback(made.close)
            return made

        verify, draft, decider, keeper = program("verify"), program("draft"), None, None
        if "accept" in loaded:
            _, shapes, greedy = loaded["accept"]
            outside = {"logits": verify.address("logits")}
            if not greedy:
                rows = max(shape.rows for shape in shapes.narrow)
                keeper = LogitStore(draft.address("draft_logits"), rows, draft.line("draft_logits"))
                stack.callback(keeper.close)
                outside["draft_logits"] = keeper.table
            decider = TrtDecider(program("accept", **outside), shapes, keeper)
        yield Engines(
            TrtVerifyEngine(verify, loaded["verify"].shapes, decider),
            TrtDraftEngine(draft, loaded["draft"].shapes, loaded["draft"].greedy, keeper),
        )
