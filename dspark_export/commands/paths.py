"""Paths of the command line: names that the graphs, the manifest and JSON can hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from dspark_engines.text_file import SURROGATE


class _Path(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A `Path`. Refuses bytes that are not UTF-8, which ONNX Runtime and JSON cannot hold, and NUL."""
        text = os.fsdecode(value)
        if not text:
            self.fail("the name is empty", param, ctx)
        if "\0" in text:
            self.fail("a name cannot hold NUL", param, ctx)
        if SURROGATE.search(text):
            shown = os.fsencode(text).decode("utf-8", "backslashreplace")
            self.fail(f"{shown}: the name is not UTF-8; rename it, or set LC_ALL=C.UTF-8 if it is", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)
"""The type of every option and argument that takes a path."""
