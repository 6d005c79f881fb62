"""What the backend for ONNX Runtime's CUDA provider must refuse. No machine of the tests has that provider."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime_cuda import checking
from tests.support.command_line import PROMPT, Case, Place, edit_json

NAME = "onnxruntime-cuda"


def build(fragment: str, **options: Any) -> Case:
    """A build for the CUDA provider."""
    return Case(lambda place: place.build(**({"backend": NAME} | options)), fragment)


def compiled(fragment: str, *, provider: bool = True, gpu: str | None = None, gpu_package: bool = False) -> Case:
    """A bundle compiled for it in bf16, opened on a machine with or without provider, GPU and the GPU's package."""

    def prepare(place: Place) -> list[str]:
        names = [checking.CUDA, "CPUExecutionProvider"]
        place.patch.setattr(onnxruntime, "get_available_providers", lambda: names if provider else names[1:])
        place.patch.setattr(checking, "local_capability", lambda: gpu)
        if gpu_package:
            place.patch.setattr(checking, "distribution", lambda name: name)

        def claim(manifest: dict[str, Any]) -> None:
            backend = manifest["backends"][0]
            backend["name"] = NAME
            for engine in backend["engines"]:
                engine["precision"] = "bf16"

        edit_json(place.bundle / "manifest.json", claim)
        return place.generate(*PROMPT, f"--backend={NAME}")

    return Case(prepare, fragment)


def little_room(place: Place) -> list[str]:
    """Enough on the disk for a manifest, not for weights in half precision."""
    arguments = ["compile", str(place.bundle), f"--backend={NAME}"]
    place.patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    return arguments


CUDA = {
    "cuda: int8 graphs": build("cannot compile graphs exported in int8", precision="int8"),
    "cuda: compute capability": build("for no GPU in particular and has no compute cap", compute_capability="8.9"),
    "cuda: workspace": build("for no GPU in particular and has no workspace mib", workspace="64"),
    "cuda: plugins": build("for no GPU in particular and has no plugins", plugins=True),
    "cuda: timing cache": build("for no GPU in particular and has no timing cache", timing_cache="x"),
    "cuda: buckets too small": build("the token buckets end at 5, but a full step has 6", token_buckets="1,5"),
    "cuda: little room on the disk": Case(little_room, "GB needed, 0.00 GB free on this disk"),
    "cuda: no provider": compiled("CUDA provider, and the package 'onnxruntime'", provider=False),
    "cuda: package overwritten": compiled("'onnxruntime' was installed over", provider=False, gpu_package=True),
    "cuda: no GPU": compiled("needs an NVIDIA GPU with its driver, and there is none"),
    "cuda: no bf16": compiled("compiled for bf16, which this machine's GPU does not have", gpu="7.5"),
    "cuda: engines not there": Case(
        lambda place: place.generate(*PROMPT, f"--backend={NAME}"), f"no engines of backend '{NAME}'"
    ),
}
