"""Imports run one way, torch stays in its place, and `__init__` files only export."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = {
    "dspark_plugins": ROOT / "plugins" / "dspark_plugins",
    "dspark_calibration": ROOT / "calibration" / "dspark_calibration",
    "dspark_engines": ROOT / "engines" / "dspark_engines",
    "dspark_export": ROOT / "dspark_export",
}
MAY_IMPORT = {
    "dspark_plugins": set(),
    "dspark_calibration": set(),
    "dspark_engines": {"dspark_plugins", "dspark_calibration"},
    "dspark_export": {"dspark_plugins", "dspark_calibration", "dspark_engines"},
}
BACKENDS = FOLDERS["dspark_engines"] / "backends"
BACKENDS_NAME = "dspark_engines.backends"
ORACLE = {"torch", "transformers"}
ORACLE_FOLDER = FOLDERS["dspark_export"] / "parity"
MODULES = [(package, path) for package, folder in FOLDERS.items() for path in sorted(folder.rglob("*.py"))]
INITS = [path for _, path in MODULES if path.name == "__init__.py"]
# A module's name in a string, as lazy registries have it: "dspark_engines.backends.x", perhaps with ":Class".
NAMED_MODULE = re.compile(r"(dspark_\w+)(\.\w+)+(:\w+)?")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (top-level package, line) for every absolute import in `tree`, also in functions and strings."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name.split(".")[0], node.lineno) for alias in names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield module.split(".")[0], node.lineno
            case ast.Call(func=function, args=[ast.Constant(value=str(module)), *_]) if is_import(function):
                yield module.split(".")[0], node.lineno
            case ast.Constant(value=str(text)) if found := NAMED_MODULE.fullmatch(text):
                yield found[1], node.lineno


def is_import(function: ast.expr) -> bool:
    """Whether a call of `function` imports what its first argument names."""
    return ast.unparse(function).split(".")[-1] in {"import_module", "__import__", "importorskip"}


def escapes(path: Path, folder: Path) -> list[int]:
    """Return the lines of the relative imports that climb out of the package in `folder`."""
    depth = len(path.relative_to(folder).parts)
    nodes = (node for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom))
    return [node.lineno for node in nodes if node.level > depth]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name_of(path))


def found_in(path: Path, forbidden: set[str]) -> list[str]:
    imports = imported(parse(path))
    return [f"{name_of(path)}:{line} {module}" for module, line in imports if module in forbidden]


def test_every_package_is_looked_at() -> None:
    assert {package for package, _ in MODULES} == set(FOLDERS)


@pytest.mark.parametrize(("package", "path"), MODULES, ids=[name_of(path) for _, path in MODULES])
def test_imports_run_one_way(package: str, path: Path) -> None:
    assert found_in(path, set(FOLDERS) - MAY_IMPORT[package] - {package}) == []
    assert escapes(path, FOLDERS[package]) == []


@pytest.mark.parametrize("package", FOLDERS)
def test_torch_is_only_the_oracle(package: str) -> None:
    paths = [path for owner, path in MODULES if owner == package and not path.is_relative_to(ORACLE_FOLDER)]
    assert [line for path in paths for line in found_in(path, ORACLE)] == []


def test_one_module_loads_onnxruntime() -> None:
    """It switches the library's telemetry off first."""
    loader = FOLDERS["dspark_engines"] / "backends" / "onnxruntime" / "loader.py"
    paths = [path for _, path in MODULES if path != loader]
    assert [line for path in paths for line in found_in(path, {"onnxruntime"})] == []
    assert found_in(loader, {"onnxruntime"}) != []


@pytest.mark.parametrize("backend", ["padded", "onnxruntime_cuda"])
def test_import_direction_of_padded_steps(backend: str) -> None:
    """TensorRT builds on them, and so does ONNX Runtime's CUDA provider, which has nothing of TensorRT's."""
    modules = {name for path in (BACKENDS / backend).rglob("*.py") for name in modules_named(parse(path))}
    assert f"{BACKENDS_NAME}.padded.shapes" in modules
    assert {name for name in modules if name.startswith(f"{BACKENDS_NAME}.tensorrt")} == set()


def test_import_direction_of_checks() -> None:
    """What makes a bundle knows nothing of what examines one."""
    makers = [FOLDERS["dspark_export"] / name for name in ("checkpoints", "graphs", "quantization", "bundling")]
    modules = {name for folder in makers for path in folder.rglob("*.py") for name in modules_named(parse(path))}
    assert {name for name in modules if name.startswith(("dspark_export.checks", "dspark_export.commands"))} == set()
    quantization = {name for path in makers[2].rglob("*.py") for name in modules_named(parse(path))}
    assert {name for name in quantization if name.startswith("dspark_export.bundling")} == set()


def modules_named(tree: ast.AST) -> Iterator[str]:
    """Yield every module that `tree` imports, also in functions and strings, whole; of `from a import b`, a and a.b."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(level=0, module=str(module), names=names):
                yield from (module, *(f"{module}.{alias.name}" for alias in names))
            case ast.Constant(value=str(text)) if NAMED_MODULE.fullmatch(text):
                yield text.split(":")[0]


def test_cli_imports_dspark_export_only() -> None:
    assert found_in(ROOT / "cli.py", (set(FOLDERS) - {"dspark_export"}) | ORACLE) == []


@pytest.mark.parametrize("path", INITS, ids=name_of)
def test_inits_only_export(path: Path) -> None:
    assert statements_that_do_more(parse(path)) == []


def statements_that_do_more(tree: ast.Module) -> list[int]:
    """Return the lines of what is no docstring, no import and no assignment of `__all__`."""
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    return [node.lineno for node in body if not is_export(node)]


def is_export(node: ast.stmt) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom():
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.AnnAssign(target=ast.Name(id="__all__")):
            return True
    return False


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import torch.nn as nn", {"torch"}),
        ("def f():\n    from dspark_export import graphs", {"dspark_export"}),
        ("from . import torch", set()),
        ("import importlib\nimportlib.import_module('torch')", {"importlib", "torch"}),
        ("BACKENDS = {'x': 'dspark_engines.backends.x:Backend'}", {"dspark_engines"}),
        ("'''Prose may name dspark_export.graphs, and torch.'''\nNAME = 'torch'", set()),
    ],
)
def test_the_search_finds_imports(source: str, modules: set[str]) -> None:
    assert {module for module, _ in imported(ast.parse(source))} == modules


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('"""Docs."""\nfrom a import b\n\n__all__ = ["b"]', []),
        ("", []),
        ('"""Docs."""\nx = 1', [2]),
        ("def f(): ...", [1]),
        ("try:\n    import a\nexcept ImportError:\n    pass", [1]),
    ],
)
def test_the_search_finds_more_than_exports(source: str, lines: list[int]) -> None:
    assert statements_that_do_more(ast.parse(source)) == lines


def rooms(package: str) -> dict[str, set[str]]:
    """Each folder (or file) at the top of a package, with those that it imports. Names in strings do not count."""
    found: dict[str, set[str]] = {}
    for owner, path in MODULES:
        if owner != package:
            continue
        room = path.relative_to(FOLDERS[package]).parts[0].removesuffix(".py")
        nodes = [node for node in ast.walk(parse(path)) if isinstance(node, ast.ImportFrom) and node.module]
        targets = {str(node.module).split(".")[1] for node in nodes if str(node.module).startswith(f"{package}.")}
        found.setdefault(room, set()).update(targets - {room})
    return found


@pytest.mark.parametrize("package", FOLDERS)
def test_import_direction_has_no_circles(package: str) -> None:
    left = rooms(package)
    while ready := [room for room, needed in left.items() if not needed & left.keys()]:
        for room in ready:
            del left[room]
    assert left == {}
