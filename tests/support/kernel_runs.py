"""The ops by their Triton kernels on torch tensors: under Triton's interpreter, or on a GPU. NumPy in, NumPy out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dspark_plugins.accept.reference import AcceptResult
from dspark_plugins.accept.running import run_steps
from dspark_plugins.markov_head import MarkovHeadSpec
from dspark_plugins.markov_head.reference import MarkovHeadResult
from dspark_plugins.markov_head.running import MarkovChain, confidence

TYPES = {"fp32": torch.float32, "i32": torch.int32, "i64": torch.int64, "fp16": torch.float16, "bf16": torch.bfloat16}
HALF_WEIGHTS = ("w1", "w2", "mix_weight")
Arrays = Mapping[str, np.ndarray]


def poisoned(device: str) -> Any:
    """An allocator whose tensors begin full of NaN or of impossible ids, so that nothing unwritten goes unnoticed."""

    def allocate(shape: tuple[int, ...], kind: str) -> torch.Tensor:
        poison = float("nan") if kind == "fp32" else -(2**31)
        return torch.full(shape, poison, dtype=TYPES[kind], device=device)

    return allocate


def on(device: str, arrays: Arrays, weights: str = "fp32") -> dict[str, torch.Tensor]:
    """Contiguous tensors; the large weights in the type named."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in arrays.items()}
    return {name: t.to(TYPES[weights]) if name in HALF_WEIGHTS else t for name, t in tensors.items()}


def markov(
    spec: MarkovHeadSpec, arrays: Arrays, sampling: bool, weights: str = "fp32", device: str = "cpu"
) -> MarkovHeadResult:
    """`dspark::MarkovHead` of the op's inputs by name; a greedy head has no draft_logits, they are empty here."""
    tensors = on(device, arrays, weights)
    drafted = MarkovChain(spec, tensors, poisoned(device), sampling).run()
    rows, block = arrays["uniforms"].shape
    scores = torch.full((rows, block), float("inf"))
    if spec.confidence:
        scores = confidence(spec, tensors, torch.stack(drafted["previous"], 1))
    logits = torch.stack(drafted["logits"], 1) if sampling else torch.zeros(rows, block, 0)
    return MarkovHeadResult(torch.stack(drafted["ids"], 1).cpu().numpy(), scores.cpu().numpy(), logits.cpu().numpy())


def accept(arrays: Arrays, sampling: bool, device: str = "cpu") -> AcceptResult:
    """`dspark::Accept` of the op's inputs by name."""
    accepted, following = run_steps(on(device, arrays), poisoned(device), sampling)
    return AcceptResult(accepted.cpu().numpy(), following.cpu().numpy())


def interpreted() -> bool:
    """Whether the kernels run under the interpreter in this process."""
    from dspark_plugins.accept.steps import SCAN

    return type(SCAN.function()).__name__ == "InterpretedFunction"
