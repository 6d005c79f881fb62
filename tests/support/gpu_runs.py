"""What the tests under tests/gpu do on the device, in a process where Triton compiles."""

from __future__ import annotations

import numpy as np
import torch

from dspark_plugins.accept.reference import AcceptResult
from dspark_plugins.markov_head import MarkovHeadSpec, steps
from dspark_plugins.markov_head.reference import MarkovHeadResult
from dspark_plugins.nodes.launching import launch
from tests.support import kernel_runs
from tests.support.cuda_driver import launch_ptx
from tests.support.kernel_runs import Arrays, on, poisoned


def device() -> str:
    """The GPU's name, or nothing where torch sees none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def markov(spec: MarkovHeadSpec, arrays: Arrays, sampling: bool, weights: str = "fp32") -> MarkovHeadResult:
    """`dspark::MarkovHead` on the device, twice: the bits are the same."""
    torch.backends.cuda.matmul.allow_tf32 = False
    one, other = (kernel_runs.markov(spec, arrays, sampling, weights, "cuda") for _ in range(2))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)
    return one


def accept(arrays: Arrays, sampling: bool) -> AcceptResult:
    """`dspark::Accept` on the device, twice."""
    one, other = (kernel_runs.accept(arrays, sampling, "cuda") for _ in range(2))
    np.testing.assert_array_equal(one, other)
    return one


def ptx_as_tensorrt_launches_it(spec: MarkovHeadSpec, arrays: Arrays, most_rows: int) -> None:
    """One step of scores and pick by stripped PTX and the driver equals the same by Triton, bit for bit."""
    tensors = on("cuda", arrays)
    tensors |= {"table": tensors["w1"], "index": tensors["anchor_ids"]}
    attributes = {"vocab": arrays["base_logits"].shape[2], "block": spec.block_size, "rank": spec.rank}
    attributes |= {"step": 0, "gather": 1}
    known = [dict(tensors), dict(tensors)]
    for node in (steps.SCORES, steps.PICK):
        by_triton = launch(node, known[0], attributes, poisoned("cuda"), most_rows)
        by_driver = launch_ptx(node, known[1], attributes, most_rows)
        for name, tensor in by_triton.items():
            np.testing.assert_array_equal(by_driver[name].cpu().numpy(), tensor.cpu().numpy(), err_msg=name)
        known[0] |= by_triton
        known[1] |= by_driver
