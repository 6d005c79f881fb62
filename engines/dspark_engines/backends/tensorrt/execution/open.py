"""From engine files to engines on the device, with everything checked that can be known beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

from dspark_engines.backends.engine import Engines, NoDraftEngine
from dspark_engines.backends.exported import role_caches
from dspark_engines.backends.padded.acceptor import PaddedAcceptor
from dspark_engines.backends.padded.engines import PaddedDraftEngine, PaddedVerifyEngine
from dspark_engines.backends.padded.shapes import RoleShapes, role_shapes
from dspark_engines.backends.tensorrt.device import local_capability
from dspark_engines.backends.tensorrt.flavours import Flavour
from dspark_engines.backends.tensorrt.logger import make_logger
from dspark_engines.bundle import BackendInfo, Bundle, CacheSpec, EngineInfo, Role
from dspark_engines.errors import BackendError


def check_machine(flavour: Flavour, trt: Any, bundle: Bundle, info: BackendInfo) -> None:
    """Raises `BackendError` when these engines are of another library version, or of another GPU than is here."""
    again = f"dspark-export compile {bundle.path} --backend {flavour.name} --overwrite"
    if info.version != trt.__version__:
        raise BackendError(
            f"{bundle.path}: compiled with {flavour.title} {info.version}, this machine has {trt.__version__}",
            hint=f"compile it again: {again}",
        )
    local, built = local_capability(flavour), info.engines[0].compute_capability
    if local is None:
        raise BackendError(
            f"backend '{flavour.name}' needs an NVIDIA GPU with its driver, and there is none here",
            hint="run it on a machine with one; --backend onnxruntime runs on the CPU",
        )
    if local != built:
        raise BackendError(
            f"{bundle.path}: compiled for compute capability {built}, this machine's GPU has {local}",
            hint=f"compile it again: {again} --compute-capability {local}",
        )


def load_engine(flavour: Flavour, trt: Any, bundle: Bundle, info: EngineInfo) -> Any:
    """Deserialize one engine. Raises `BackendError` with the library's own words."""
    logger = make_logger(trt)
    engine = trt.Runtime(logger).deserialize_cuda_engine(bundle.file(info.path).read_bytes())
    if engine is None:
        reason = logger.errors[0] if logger.errors else "no reason given"
        raise BackendError(
            f"{bundle.file(info.path)}: {flavour.title} cannot load it: {reason:.200}",
            hint=f"compile it again: dspark-export compile {bundle.path} --backend {flavour.name} --overwrite",
        )
    return engine


def load_engines(flavour: Flavour, trt: Any, bundle: Bundle, info: BackendInfo) -> AbstractContextManager[Engines]:
    """All engines of a bundle on the device, for the duration of a `with` block."""
    limits, drafter = bundle.manifest.limits, bundle.manifest.drafter
    loaded = {}
    for record in info.engines:
        buckets, width = record.token_buckets, drafter.block_width
        shapes = role_shapes(record.role, limits, drafter.block_size, buckets, block_width=width)
        engine, caches = load_engine(flavour, trt, bundle, record), role_caches(bundle, record.role)
        loaded[record.role] = Loaded(engine, shapes, caches, record.greedy_drafts)
    return assemble(trt, loaded)


class Loaded(NamedTuple):
    """A deserialized engine, the shapes it was built for, its caches, and whether it serves greedy rows only."""

    engine: Any
    shapes: RoleShapes
    caches: list[CacheSpec]
    greedy: bool


@contextmanager
def assemble(trt: Any, loaded: Mapping[Role, Loaded]) -> Iterator[Engines]:
    """Both engines for the duration of a `with` block, all memory given back behind it.

    The accept engine reads the target's logits where they are put out, and draft logits where they are laid out
    for it. Without it, in bundles of before there was one, the host accepts.
    """
    # These import the CUDA runtime, which a machine without a GPU may lack.
    from dspark_engines.backends.tensorrt.execution.logit_store import LogitStore
    from dspark_engines.backends.tensorrt.execution.program import TrtProgram

    with ExitStack() as stack:

        def program(role: Role, **outside: int) -> TrtProgram:
            made = TrtProgram(trt, *loaded[role][:3], outside)
            stack.callback(made.close)
            return made

        verify = program("verify")
        if "draft" not in loaded:
            yield Engines(PaddedVerifyEngine(verify, loaded["verify"].shapes), NoDraftEngine())
            return
        draft, acceptor, keeper = program("draft"), None, None
        if "accept" in loaded:
            _, shapes, _, greedy = loaded["accept"]
            outside = {"logits": verify.address("logits")}
            if not greedy:
                rows = max(shape.rows for shape in shapes.narrow)
                keeper = LogitStore(draft.address("draft_logits"), rows, draft.line("draft_logits"))
                stack.callback(keeper.close)
                outside["draft_logits"] = keeper.table
            acceptor = PaddedAcceptor(program("accept", **outside), shapes, keeper)
        yield Engines(
            PaddedVerifyEngine(verify, loaded["verify"].shapes, acceptor),
            PaddedDraftEngine(draft, loaded["draft"].shapes, loaded["draft"].greedy, keeper),
        )
