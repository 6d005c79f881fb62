"""Modules that stand in for packages which another project's source imports and does not use here."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest


class _StandIn(ModuleType):
    """A module of which every name is a class that can be made and subscripted."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        methods = {"__init__": lambda self, *_, **__: None, "__class_getitem__": classmethod(lambda cls, _: cls)}
        return type(name, (), methods)


def stand_in(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Put a module in the place of each of `names`, packages before what they hold, that is not installed."""
    missing = {name for name in names if find_spec(name.partition(".")[0]) is None}
    for name in (name for name in names if name in missing):
        module = _StandIn(name)
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        patch.setitem(sys.modules, name, module)
