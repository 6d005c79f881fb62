"""What a measurement belongs to: the machine, the engines, the library, the number of threads."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Bundle
from dspark_engines.machine import instruction_set, processor_name, usable_cores


class Fingerprint(BaseModel):
    """Two measurements are comparable when all of this is equal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: str
    instruction_set: str = ""
    """Machine type and the instructions that kernels are chosen by; "" in files of older versions."""
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
    cores = usable_cores()
    return Fingerprint(
        cpu=processor_name(),
        instruction_set=instruction_set(),
        cores=cores,
        threads=options.threads or cores,
        spinning=options.spinning,
        backend=backend,
        backend_version=get_backend(backend).version,
        engines=engines,
    )
