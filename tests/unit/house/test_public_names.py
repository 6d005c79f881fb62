"""The names that other code may lean on: what each package exports, and nothing that is not there."""

from __future__ import annotations

import ast
from importlib import import_module

import pytest

from tests.unit.house.test_imports_one_way import FOLDERS

PUBLIC = {
    "dspark_plugins": "DOMAIN DOMAIN_VERSION OPSET",
    "dspark_engines": "Bundle DsparkError GenerationRequest GenerationResult Generator Runtime RuntimeOptions "
    "SamplingParams open_bundle",
    "dspark_export.checkpoints.dialects": "Dialect DrafterDialect TargetDialect drafter_dialect drafter_dialects "
    "register_drafter_dialect register_target_dialect target_dialect target_dialects",
    "dspark_export.checkpoints.seams": "DraftMethod GgufLayout TargetFamily family_architectures family_of_config "
    "family_of_gguf get_family get_method gguf_architectures method_names register_family register_method",
}
"""Packages whose exports are a promise: taking one away, or renaming it, is a change for users (CHANGELOG)."""


def packages() -> list[str]:
    inits = [(name, folder, path) for name, folder in FOLDERS.items() for path in sorted(folder.rglob("__init__.py"))]
    return [".".join([name, *path.parent.relative_to(folder).parts]) for name, folder, path in inits]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_these(name: str) -> None:
    assert sorted(import_module(name).__all__) == PUBLIC[name].split()


@pytest.mark.parametrize("name", packages())
def test_public_names_exist_once_and_are_all_that_is_imported(name: str) -> None:
    top, *rest = name.split(".")
    tree = ast.parse(FOLDERS[top].joinpath(*rest, "__init__.py").read_text("utf-8"))
    imported = [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    ]
    exported = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    names = exported[0] if exported else []
    assert sorted(names) == sorted(set(imported))
    assert len(names) == len(set(names))
