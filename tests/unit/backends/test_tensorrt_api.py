"""What execution calls exists, with so many arguments, in the installed bindings: their signatures are their stubs.

Execution cannot run without a GPU, and neither package ships type stubs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "engines" / "dspark_engines" / "backends" / "tensorrt"
FILES = [*sorted((FOLDER / "execution").glob("*.py")), FOLDER / "device.py", FOLDER / "building" / "report.py"]
# How these files call what is of which class.
RECEIVERS = {
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "self._engine": "ICudaEngine",
    "trt.Runtime(logger)": "Runtime",
    "engine.create_engine_inspector()": "EngineInspector",
    "trt": "",
    "self._trt": "",
}
CUDA = ("cuda.py", "device.py")


class Use(NamedTuple):
    where: str
    receiver: str
    member: str
    arguments: int | None


def uses() -> list[Use]:
    """Every attribute that these files read of something, and how many arguments it is called with."""
    found = []
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        called = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        calls = {id(node.func): len(node.args) + len(node.keywords) for node in called}
        found += list(_attributes(path, tree, calls))
    return sorted(set(found), key=str)


def _attributes(path: Path, tree: ast.AST, calls: dict[int, int]) -> Iterator[Use]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="call"), args=[ast.Attribute(value=value, attr=name), *rest]):
                yield Use(f"{path.name}:{node.lineno}", ast.unparse(value), name, len(rest))  # cuda.call(function, …)
            case ast.Attribute(value=value, attr=name):
                yield Use(f"{path.name}:{node.lineno}", ast.unparse(value), name, calls.get(id(node)))


def parameters(function: Any) -> set[int] | None:
    """Numbers of arguments that a binding takes, by its docstring's signatures; None for what is no function."""
    text = function.__doc__ or ""
    name = getattr(function, "__name__", "")
    signatures = re.findall(rf"{name}\((.*?)\)(?: ->|\n|$| \|)", text)
    counts: set[int] = set()
    for signature in signatures:
        names = [part for part in _split(signature) if part and not part.startswith(("self", "*"))]
        optional = sum("=" in part for part in names)
        counts |= set(range(len(names) - optional, len(names) + 1))
    return counts if callable(function) and counts else None


def _split(signature: str) -> list[str]:
    """Parameters between commas that stand in no bracket."""
    parts, depth = [""], 0
    for letter in signature:
        depth += (letter in "([<") - (letter in ")]>")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


USES = uses()


def test_something_is_found() -> None:
    assert {use.member for use in USES} >= {"execute_async_v3", "set_tensor_address", "cudaGraphLaunch", "cudaMalloc"}


@pytest.mark.parametrize("use", [use for use in USES if use.receiver in RECEIVERS], ids=str)
def test_tensorrt_has_it(use: Use) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="the extra [tensorrt-rtx] is not installed")
    owner = getattr(trt, RECEIVERS[use.receiver]) if RECEIVERS[use.receiver] else trt
    assert hasattr(owner, use.member), f"{use.where}: no {use.member} in {owner}"
    known = parameters(getattr(owner, use.member))
    if use.arguments is not None and known is not None and not isinstance(getattr(owner, use.member), type):
        assert use.arguments in known, f"{use.where}: {use.member} takes {known}"


@pytest.mark.parametrize(
    "use", [use for use in USES if use.where.startswith(CUDA) and use.receiver == "runtime"], ids=str
)
def test_cuda_has_it(use: Use) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="the extra [tensorrt-rtx] is not installed")
    assert hasattr(runtime, use.member), f"{use.where}: no {use.member}"
    known = parameters(getattr(runtime, use.member))
    if use.arguments is not None:
        assert known is not None, use.member
        assert use.arguments in known, f"{use.where}: {use.member} takes {known}"


@pytest.mark.parametrize(
    ("group", "member"),
    [
        ("cudaMemcpyKind", "cudaMemcpyHostToDevice"),
        ("cudaMemcpyKind", "cudaMemcpyDeviceToHost"),
        ("cudaStreamCaptureMode", "cudaStreamCaptureModeThreadLocal"),
        ("cudaError_t", "cudaSuccess"),
        ("cudaDeviceAttr", "cudaDevAttrComputeCapabilityMajor"),
        ("cudaDeviceAttr", "cudaDevAttrComputeCapabilityMinor"),
    ],
)
def test_cuda_has_the_constant(group: str, member: str) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="the extra [tensorrt-rtx] is not installed")
    assert hasattr(getattr(runtime, group), member)


def test_the_reading_of_signatures() -> None:
    def documented(text: str) -> Any:
        def f() -> None: ...

        f.__doc__ = text
        return f

    assert parameters(documented("f(self: a.B, x: typing.SupportsInt, y: tuple[int, int]) -> bool")) == {2}
    assert parameters(documented("f(size_t size)\n\nwords")) == {1}
    overloaded = documented("f(*args, **kwargs)\n1. f(self: a, b: c) -> d\n2. f(self: a, b: c, e: f = None) -> d")
    assert parameters(overloaded) == {0, 1, 2}
