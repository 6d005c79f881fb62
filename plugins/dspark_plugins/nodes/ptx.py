"""The parameters of a PTX kernel. Recent Triton adds pointers to scratch memory behind the declared ones.

A caller that passes the declared parameters only, as TensorRT does, would let the driver read beyond its list. So the
added parameters are taken out again, after making sure that the kernel does not read them.
"""

from __future__ import annotations

import re

ENTRY = re.compile(r"\.visible \.entry (?P<name>[\w$]+)\s*\((?P<parameters>[^)]*)\)", re.DOTALL)
PARAMETER = re.compile(r"\.param\s+\.(?P<type>\w+)(?:\s+\.\w+(?:\s+\d+)?)*\s+(?P<name>[\w$]+)$")
TARGET = re.compile(r"^\.target\s+(\w+)", re.MULTILINE)


def declared_parameters(ptx: str, kernel: str) -> list[tuple[str, str]]:
    """(type, name) of each parameter of the entry `kernel`, in order. Raises `ValueError` where it is not there."""
    return [_parsed(text) for text in _parameters(_entry(ptx, kernel))]


def target_of(ptx: str) -> str:
    """The architecture that the PTX is for, such as sm_90a. Raises `ValueError` where it names none."""
    found = TARGET.search(ptx)
    if found is None:
        raise ValueError("the PTX names no target")
    return found[1]


def without_hidden_parameters(ptx: str, kernel: str, expected: list[str]) -> str:
    """The PTX with the entry's parameters cut down to `expected`, a list of PTX types such as u64.

    Raises `ValueError` when the parameters do not begin with these types, or the kernel reads one of the others.
    """
    entry = _entry(ptx, kernel)
    texts = _parameters(entry)
    parameters = [_parsed(text) for text in texts]
    types = [kind for kind, _ in parameters]
    if types[: len(expected)] != expected:
        raise ValueError(f"{kernel} takes {types} in PTX, which does not begin with {expected}")
    start, end = entry.span("parameters")
    for _, name in parameters[len(expected) :]:
        if re.search(rf"\b{re.escape(name)}\b", ptx[:start] + ptx[end:]):
            raise ValueError(f"{kernel} reads its hidden parameter {name}")
    kept = ",\n\t".join(texts[: len(expected)])
    return f"{ptx[:start]}\n\t{kept}\n{ptx[end:]}"


def _entry(ptx: str, kernel: str) -> re.Match[str]:
    entries = [found for found in ENTRY.finditer(ptx) if found["name"] == kernel]
    if len(entries) != 1:
        raise ValueError(f"the PTX has {len(entries)} entries {kernel}, not one")
    return entries[0]


def _parameters(entry: re.Match[str]) -> list[str]:
    return [text.strip() for text in entry["parameters"].split(",") if text.strip()]


def _parsed(text: str) -> tuple[str, str]:
    found = PARAMETER.match(text)
    if found is None:
        raise ValueError(f"unreadable PTX parameter {text!r}")
    return found["type"], found["name"]
