"""The two flavours of TensorRT: which module, which package, which GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from dspark_engines.errors import BackendError


@dataclass(frozen=True)
class Flavour:
    """A build of TensorRT. `extra` is this distribution's that installs it.

    `portable`: it builds for GPUs that are not there; `plugins`: it takes some.
    """

    name: str
    title: str
    module: str
    extra: str
    oldest: tuple[int, int]
    portable: bool
    plugins: bool

    def load(self) -> Any:
        """The Python module. Raises `BackendError` when it is missing or too old."""
        try:
            module = import_module(self.module)
        except (ImportError, OSError) as error:  # OSError: the module is there, its shared library is not
            raise BackendError(
                f"backend '{self.name}' needs {self.title}, which is not installed ({str(error).splitlines()[0]:.120})",
                hint=f"pip install 'dspark-export[{self.extra}]'",
            ) from None
        version = tuple(int(part) for part in module.__version__.split(".")[:2])
        if version < self.oldest:
            raise BackendError(
                f"{self.title} {module.__version__} is too old, backend '{self.name}' needs "
                f"{'.'.join(map(str, self.oldest))} or newer",
                hint=f"pip install --upgrade 'dspark-export[{self.extra}]'",
            )
        return module


RTX = Flavour("tensorrt-rtx", "TensorRT-RTX", "tensorrt_rtx", "tensorrt-rtx", (1, 7), portable=True, plugins=False)
TENSORRT = Flavour("tensorrt", "TensorRT", "tensorrt", "tensorrt", (11, 1), portable=False, plugins=True)


def capabilities(flavour: Flavour, trt: Any) -> dict[str, Any]:
    """Compute capabilities that engines can be built for ahead of time, "8.9" → the library's constant.

    TensorRT knows the constants too, but builds for the GPU that it runs on.
    """
    members = trt.ComputeCapability.__members__ if flavour.portable else {}
    found = {name: value for name, value in members.items() if name.startswith("SM")}
    pairs = {f"{name[2:-1]}.{name[-1]}": value for name, value in found.items()}
    return dict(sorted(pairs.items(), key=lambda item: tuple(map(int, item[0].split(".")))))
