"""A node's kernel, compiled for a GPU architecture. Needs triton, and no GPU."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspark_plugins.nodes.node import WEIGHT, WEIGHT_TYPES, Attributes, PluginNode
from dspark_plugins.nodes.ptx import declared_parameters, target_of, without_hidden_parameters

ALIGNMENT = 16
"""Bytes. TensorRT's and torch's buffers begin at multiples of 256, so that every tensor may be read in vectors."""
WARP = 32
PTX_VERSION = 87
"""PTX 8.7 (CUDA 12.8) is the oldest that knows all architectures, and so asks least of the driver that loads it."""


@dataclass(frozen=True)
class CompiledKernel:
    """name in the PTX; ptx that takes the node's parameters and no others; threads of a program; shared memory, bytes.

    `hidden` counts the parameters that Triton had added behind them, none of which the kernel read.
    """

    name: str
    ptx: str
    threads: int
    shared: int
    hidden: int


@dataclass(frozen=True)
class Resources:
    """What the assembler says of a kernel: registers a thread; spilled and stack bytes a thread; its binary."""

    registers: int
    spilled: int
    stack: int
    shared: int
    cubin: bytes


def compile_node(
    node: PluginNode,
    attributes: Attributes,
    compute_capability: int,
    most_rows: int,
    types: Mapping[str, str] | None = None,
) -> CompiledKernel:
    """Compile `node` for sm_<compute_capability>; `types`: those of its `weight` inputs, fp32 where it is silent.

    Raises `ValueError` for a type that no kernel takes, and when Triton's PTX does not have the node's parameters.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = node.function()
    signature, constants = _signature(node, function, attributes, most_rows, types or {})
    aligned = {(i,): [["tt.divisibility", ALIGNMENT]] for i, kind in enumerate(signature.values()) if kind[0] == "*"}
    source = ASTSource(function, signature, constexprs=constants, attrs=aligned)
    warps = node.warps(constants)
    options = {"num_warps": warps, "enable_fp_fusion": True, "ptx_version": PTX_VERSION}
    built = triton.compile(source, target=GPUTarget("cuda", compute_capability, WARP), options=options)
    scratch = built.metadata.global_scratch_size + built.metadata.profile_scratch_size
    if scratch:
        raise ValueError(
            f"{node.op}: the kernel wants {scratch} bytes of scratch memory, which a plugin cannot give it"
        )
    ptx, name = built.asm["ptx"], built.metadata.name
    expected = ["u64" if kind[0] == "*" else "u32" for kind in signature.values() if kind != "constexpr"]
    stripped = without_hidden_parameters(ptx, name, expected)
    hidden = len(declared_parameters(ptx, name)) - len(expected)
    return CompiledKernel(name, stripped, warps * WARP, built.metadata.shared, hidden)


def _signature(
    node: PluginNode, function: Any, attributes: Attributes, most_rows: int, types: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, Any]]:
    """(Triton's type of each parameter, the values of those that are constants)."""
    known = {**node.inputs, **dict.fromkeys(node.integers, "i32"), **node.outputs}
    constants = node.constants(attributes, most_rows)
    signature: dict[str, str] = {}
    for name in function.arg_names:
        kind = known.get(name, "constexpr")
        kind = types.get(name, "fp32") if kind == WEIGHT else kind
        if known.get(name) == WEIGHT and kind not in WEIGHT_TYPES:
            raise ValueError(f"{node.op}: input {name} is {kind}, which is none of {', '.join(WEIGHT_TYPES)}")
        if name in node.inputs or name in node.outputs:
            kind = f"*{kind}"
        signature[name] = kind
    passed = tuple(name for name, kind in signature.items() if kind != "constexpr")
    if passed != node.parameters():
        raise ValueError(f"{node.op}: the kernel takes {passed}, the node passes {node.parameters()}")
    return signature, {name: constants.get(name) for name, kind in signature.items() if kind == "constexpr"}


def assemble(kernel: CompiledKernel) -> Resources:
    """Run the assembler that triton brings. Raises `RuntimeError` with what it says if it refuses the kernel."""
    from triton.backends.nvidia.compiler import get_ptxas

    target = target_of(kernel.ptx)
    assembler = get_ptxas(int(re.sub(r"\D", "", target))).path
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(kernel.ptx, encoding="utf-8")
        command = [assembler, "-v", f"--gpu-name={target}", str(source), "-o", str(output)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"ptxas refused {kernel.name} for {target}: {ran.stderr.strip()}")
        said = ran.stderr + ran.stdout
        return Resources(
            registers=_number(r"Used (\d+) registers", said),
            spilled=_number(r"(\d+) bytes spill stores", said) + _number(r"(\d+) bytes spill loads", said),
            stack=_number(r"(\d+) bytes stack frame", said),
            shared=kernel.shared,
            cubin=output.read_bytes(),
        )


def _number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    if not found:
        raise RuntimeError(f"ptxas says nothing that matches {pattern!r}: {text.strip()}")
    return max(int(number) for number in found)
