"""A kernel's PTX loaded and launched by the CUDA driver with a plain list of arguments: as TensorRT does it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from dspark_plugins.nodes.compiling import compile_node
from dspark_plugins.nodes.node import Attributes, PluginNode, ceil_div
from tests.support.kernel_runs import poisoned


def launch_ptx(
    node: PluginNode, tensors: dict[str, torch.Tensor], attributes: Attributes, most_rows: int
) -> dict[str, torch.Tensor]:
    """The node's outputs, from the PTX that an engine carries."""
    major, minor = torch.cuda.get_device_capability()
    names = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
    types = {name: names[tensors[name].dtype] for name, kind in node.inputs.items() if kind == "weight"}
    kernel = compile_node(node, attributes, 10 * major + minor, most_rows, types)
    rows = int(tensors[node.rows_of].shape[0])
    shapes, allocate = node.shapes(attributes, rows), poisoned("cuda")
    outputs = {name: allocate(shapes[name], kind) for name, kind in node.outputs.items()}
    arguments: list[Any] = [ctypes.c_uint64(tensors[name].data_ptr()) for name in node.inputs]
    arguments += [ctypes.c_int32(value) for value in node.values(attributes, rows).values()]
    arguments += [ctypes.c_uint64(output.data_ptr()) for output in outputs.values()]
    grid = node.grid(attributes, rows, ceil_div, node.constants(attributes, most_rows))
    _launch(kernel.ptx, kernel.name, grid, kernel.threads, kernel.shared, arguments)
    return outputs


def _launch(ptx: str, name: str, grid: Sequence[int], threads: int, shared: int, arguments: Sequence[Any]) -> None:
    torch.cuda.synchronize()  # torch's context is current from here on
    driver, module, function = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_void_p()
    _check(driver, driver.cuModuleLoadData(ctypes.byref(module), ctypes.c_char_p(ptx.encode())))
    _check(driver, driver.cuModuleGetFunction(ctypes.byref(function), module, ctypes.c_char_p(name.encode())))
    pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    launched = driver.cuLaunchKernel(function, *map(int, grid), threads, 1, 1, shared, stream, pointers, None)
    _check(driver, launched)
    torch.cuda.synchronize()
    _check(driver, driver.cuModuleUnload(module))


def _check(driver: Any, code: int) -> None:
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        raise RuntimeError(f"CUDA driver error {code}: {(text.value or b'').decode()}")
