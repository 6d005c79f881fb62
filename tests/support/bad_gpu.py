"""What the TensorRT backends must refuse, with or without the library: it is played by a few names."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace
from typing import Any

from tests.support import fake_tensorrt
from tests.support.command_line import PROMPT, Case, Place, edit_json

SUPPORTED = ("SM75", "SM80", "SM86", "SM89", "SM120")
FOLDER = "dspark_engines.backends.tensorrt"
PICK = "dspark::MarkovPick"


def library(place: Place, gpu: str | None = None, version: str = "1.7.1.116") -> None:
    """TensorRT-RTX is installed, and the machine's GPU is of that compute capability."""
    members = {name: name for name in ("CURRENT", *SUPPORTED)}
    module = SimpleNamespace(__version__=version, ComputeCapability=SimpleNamespace(__members__=members))
    place.patch.setitem(sys.modules, "tensorrt_rtx", module)
    for user in ("building.target", "execution.open"):
        place.patch.setattr(f"{FOLDER}.{user}.local_capability", lambda flavour: gpu)


def build(fragment: str, gpu: str | None = None, version: str = "1.7.1.116", **options: Any) -> Case:
    """A build for TensorRT-RTX."""

    def prepare(place: Place) -> list[str]:
        library(place, gpu, version)
        return place.build(**({"backend": "tensorrt-rtx"} | options))

    return Case(prepare, fragment)


def missing(backend: str, module: str, fragment: str) -> Case:
    """A build for a flavour that is not installed."""

    def prepare(place: Place) -> list[str]:
        place.patch.setitem(sys.modules, module, None)
        return place.build(backend=backend, compute_capability="8.9")

    return Case(prepare, fragment)


def compiled(fragment: str, gpu: str | None, version: str = "1.7.1.116") -> Case:
    """A bundle compiled with 1.7.1.116 for compute capability 8.9, on a machine with that GPU and version."""

    def prepare(place: Place) -> list[str]:
        library(place, gpu, version)

        def claim(manifest: dict[str, Any]) -> None:
            backend = manifest["backends"][0]
            backend |= {"name": "tensorrt-rtx", "version": "1.7.1.116"}
            for engine in backend["engines"]:
                engine |= {"compute_capability": "8.9", "precision": "bf16", "weights": ""}

        edit_json(place.bundle / "manifest.json", claim)
        return place.generate(*PROMPT, "--backend=tensorrt-rtx")

    return Case(prepare, fragment)


def exported_without_accept(place: Place) -> list[str]:
    """A bundle of before there was such a graph."""
    library(place)

    def forget(manifest: dict[str, Any]) -> None:
        del manifest["graphs"]["accept"]
        manifest["files"] = [file for file in manifest["files"] if "accept" not in file["path"]]

    edit_json(place.bundle / "manifest.json", forget)
    (place.bundle / "onnx" / "accept.onnx").unlink()
    return ["compile", str(place.bundle), "--backend=tensorrt-rtx", "--compute-capability=8.9"]


def little_memory(place: Place) -> list[str]:
    """A gigabyte is left."""
    library(place)
    place.patch.setattr(f"{FOLDER}.building.memory.available_bytes", lambda: 10**9)
    return place.build(backend="tensorrt-rtx", compute_capability="8.9")


def plugins(fragment: str, absent: str = "", gpu: str = "9.0", **options: Any) -> Case:
    """A build for TensorRT, on a machine with that GPU and without the package `absent`."""

    def prepare(place: Place) -> list[str]:
        fake_tensorrt.install(place.patch, gpu)
        if absent:
            place.patch.setitem(sys.modules, absent, None)
        return place.build(**({"backend": "tensorrt"} | options))

    return Case(prepare, fragment)


def lost_plugin(place: Place) -> list[str]:
    """TensorRT forgets a plugin between registration and parsing."""
    trt = fake_tensorrt.install(place.patch)
    place.patch.setattr(f"{FOLDER}.building.build.register_plugins", lambda flavour: trt.registry.pop(PICK))
    return place.build(backend="tensorrt")


def greedy_only(place: Place) -> list[str]:
    """A request with a temperature, for engines that draft greedily."""
    place.patch.setattr("dspark_engines.backends.engine.DraftEngine.samples", False)
    return place.generate(*PROMPT, "--temperature=0.7", "--speculation=on")


def little_room(command: str) -> Case:
    """Enough on the disk for the exported pair, not for engines that hold their weights."""

    def prepare(place: Place) -> list[str]:
        library(place)
        options = ["--backend=tensorrt-rtx", "--compute-capability=8.9"]
        arguments = place.build() if command == "build" else ["compile", str(place.bundle)]
        place.patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**8))
        return [*arguments, *options]

    return Case(prepare, "GB needed, 0.10 GB free on this disk")


def compare(*options: str, fragment: str) -> Case:
    """A comparison of the bundle."""
    return Case(lambda place: ["compile", str(place.bundle), "--compare", *options], fragment)


GPU = {
    "gpu: TensorRT-RTX missing": missing("tensorrt-rtx", "tensorrt_rtx", "needs TensorRT-RTX, which is not installed"),
    "gpu: TensorRT missing": missing("tensorrt", "tensorrt", "needs TensorRT, which is not installed"),
    "gpu: library too old": build("TensorRT-RTX 1.3.0.1 is too old", version="1.3.0.1", compute_capability="8.9"),
    "gpu: capability unsupported": build("does not support compute capability 9.0", compute_capability="9.0"),
    "gpu: local GPU unsupported": build("does not support compute capability 9.0", gpu="9.0"),
    "gpu: capability malformed": build("'new' is not of the form 8.9", compute_capability="new"),
    "gpu: none here": build("no GPU here whose compute capability could be taken"),
    "gpu: no bf16": build("compute capability 7.5 has no bf16", compute_capability="7.5", engine_precision="bf16"),
    "gpu: int8 graphs": build("cannot compile graphs exported in int8", compute_capability="8.9", precision="int8"),
    "gpu: no timing cache": build("keeps no timing cache", compute_capability="8.9", timing_cache="x"),
    "gpu: buckets too small": build(
        "the token buckets end at 5, but a full step has 6", compute_capability="8.9", token_buckets="1,5"
    ),
    "gpu: buckets no numbers": build("'1;2' is not a list of numbers", token_buckets="1;2"),
    "gpu: bucket of none": build("every size must be at least 1", token_buckets="0,64"),
    "gpu: little room on the disk": little_room("build"),
    "gpu: little room on the disk, compile": little_room("compile"),
    "gpu: little memory": Case(little_memory, "too little memory to build the engine"),
    "gpu: another GPU": compiled("compiled for compute capability 8.9, this machine's GPU has 8.6", gpu="8.6"),
    "gpu: another version": compiled("TensorRT-RTX 1.7.1.116, this machine has 1.8.0.1", gpu="8.9", version="1.8.0.1"),
    "gpu: bundle without GPU": compiled("needs an NVIDIA GPU with its driver, and there is none", gpu=None),
    "gpu: bundle of an older version": Case(exported_without_accept, "no onnx/accept.onnx, it was exported"),
    "plugins: no Triton": plugins("needs the package 'triton', which is not installed", absent="triton"),
    "plugins: no plugin layer": plugins("needs the package 'tensorrt.plugin', which is", absent="tensorrt.plugin"),
    "plugins: not for this flavour": build("TensorRT-RTX takes no plugins", compute_capability="8.9", plugins=True),
    "plugins: GPU too old": plugins("no plugin kernels for compute capability 7.5", gpu="7.5", plugins=True),
    "plugins: not registered": Case(lost_plugin, "(MarkovPick): No importer registered for op: MarkovPick"),
    "plugins: only here": plugins("for this machine's GPU, of compute capability 9.0", compute_capability="8.9"),
    "plugins: greedy drafts": Case(greedy_only, "temperature is 0.7, and these engines draft greedily only"),
    "cpu: plugins": Case(lambda place: place.build(plugins=True), "runs on the CPU and has no plugins"),
    "cpu: greedy drafts": Case(lambda place: place.build(greedy_drafts=True), "on the CPU and has no greedy drafts"),
    "cpu: compute capability": Case(
        lambda place: place.build(compute_capability="8.9"),
        "'onnxruntime' runs on the CPU and has no compute capability",
    ),
    "cpu: half precision": Case(lambda place: place.build(engine_precision="bf16"), "has no engines in bf16"),
    "compare: engines not there": compare("--backend=tensorrt-rtx", fragment="no engines of backend 'tensorrt-rtx'"),
    "compare: and plugins": compare("--no-plugins", fragment="--plugins does not go with --compare"),
    "compare: and compile": compare("--overwrite", fragment="--overwrite does not go with --compare"),
}
