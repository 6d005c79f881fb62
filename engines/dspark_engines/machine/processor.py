"""The processor's name and the instructions that kernels are chosen by, from /proc/cpuinfo."""

from __future__ import annotations

import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
NAME_FIELDS = ("model name", "cpu family", "model", "stepping")
FLAG_FIELDS = ("flags", "Features")
"""x86 and ARM call the list of instructions differently."""
KERNEL_FLAGS = ("avx", "fma", "amx", "f16c", "asimd", "sve", "sme", "i8mm", "bf16")
"""Beginnings of the flags that decide which matrix kernels a library picks."""


def processor_name() -> str:
    """The processor's name, family and model, as far as the system tells."""
    fields = _fields()
    known = [fields.get(name, "") for name in NAME_FIELDS]
    return " ".join(part for part in known if part) or platform.processor() or platform.machine()


def instruction_set() -> str:
    """The machine type and the flags that matrix kernels are chosen by, sorted: "x86_64 avx avx2 fma"."""
    fields = _fields()
    flags = " ".join(fields.get(name, "") for name in FLAG_FIELDS).split()
    chosen = sorted(flag for flag in set(flags) if flag.startswith(KERNEL_FLAGS))
    return " ".join([platform.machine(), *chosen])


def _fields() -> dict[str, str]:
    """The first processor's entry; empty where the system has no such file."""
    if not CPU_INFO.is_file():
        return {}
    lines = CPU_INFO.read_text("utf-8", "replace").split("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}
