"""What a measurement belongs to: the machine, the engines, the library, the number of threads."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Bundle

CPU_INFO = Path("/proc/cpuinfo")


class Fingerprint(BaseModel):
    """Two measurements are comparable when all of this is equal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: str
    cores: int
    threads: int
    spinning: bool = False
    backend: str
    backend_version: str
    engines: dict[str, str]
    """sha256 of every engine file and of the graph that it was built from, by path."""

    def differences(self, other: Fingerprint) -> list[str]:
        """Names of what differs."""
        return [name for name in type(self).model_fields if getattr(self, name) != getattr(other, name)]


def take_fingerprint(bundle: Bundle, backend: str, options: EngineOptions) -> Fingerprint:
    """The fingerprint of this machine running `bundle`."""
    hashes = {record.path: record.sha256 for record in bundle.manifest.files}
    info = next((info for info in bundle.manifest.backends if info.name == backend), None)
    engines: dict[str, str] = {}
    for engine in info.engines if info else []:
        engines[engine.path] = hashes[engine.path]
        engines[engine.built_from.path] = engine.built_from.sha256
    cores = len(os.sched_getaffinity(0))
    return Fingerprint(
        cpu=cpu_name(),
        cores=cores,
        threads=options.threads or cores,
        spinning=options.spinning,
        backend=backend,
        backend_version=get_backend(backend).version,
        engines=engines,
    )


def cpu_name() -> str:
    """The processor's name, family and model, as far as the system tells."""
    fields = {}
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text("utf-8", "replace").split("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    known = [fields.get(name, "") for name in ("model name", "cpu family", "model", "stepping")]
    return " ".join(part for part in known if part) or platform.processor() or platform.machine()
