"""The training loop: so many steps, resumable at any of them, with a curve on answers that are kept out."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training.data import Answer, pad, shuffled
from training.drafter import Drafter

INTEGERS = {torch.int64, torch.bool}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast."""

    steps: int = 2000
    batch: int = 16
    rate: float = 2e-3
    """Of AdamW (norms, embeddings); Muon, for matrices, takes five times as much."""
    warm_up: int = 40
    report: int = 100
    """Steps between two checkpoints."""
    device: str = "cpu"


def train(drafter: Drafter, answers: Sequence[Answer], held: Sequence[Answer], out: Path, plan: Plan) -> None:
    """Train from the last checkpoint in `out`, or from now, to `plan.steps`; write the drafter at every report."""
    out.mkdir(parents=True, exist_ok=True)
    optimizers = make_optimizers(drafter, plan)
    step, curve, seconds = resume(out, drafter, optimizers)
    torch.manual_seed(step)
    batches = shuffled(answers, plan.batch, torch.Generator().manual_seed(step))
    began = time.process_time()
    while step < plan.steps:
        done = step / plan.steps
        set_rates(optimizers, plan.rate * min(1.0, (step + 1) / plan.warm_up) * falling(done))
        drafter.zero_grad(set_to_none=True)
        drafter.learn(pad(next(batches), plan.device), alpha=1 - 0.8 * min(1.0, done / 0.8))
        nn.utils.clip_grad_norm_(drafter.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        if step % plan.report == 0 or step == plan.steps:
            passed = seconds + time.process_time() - began
            curve.append({"step": step, "processor_seconds": round(passed), **accepted(drafter, held, plan)})
            print(json.dumps(curve[-1]), flush=True)
            save(out, drafter, optimizers, {"step": step, "curve": curve, "seconds": passed})


def make_optimizers(drafter: Drafter, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the rest."""
    matrices = [weight for name, weight in drafter.named_parameters() if weight.ndim == 2 and "head" not in name]
    others = [weight for name, weight in drafter.named_parameters() if weight.ndim != 2 or "head" in name]
    return [
        torch.optim.Muon(matrices, lr=plan.rate * 5, weight_decay=0.01),
        torch.optim.AdamW(others, lr=plan.rate, betas=(0.9, 0.95), weight_decay=0.01),
    ]


def set_rates(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """`rate` for AdamW, five times that for Muon."""
    for optimizer, factor in zip(optimizers, (5, 1), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor


def falling(done: float) -> float:
    """Cosine from 1 to 0.01."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def accepted(drafter: Drafter, held: Sequence[Answer], plan: Plan) -> dict[str, Any]:
    """The accepted length on `held`, teacher-forced, and the share of right tokens by place; anchors are the same."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    groups = [held[i : i + plan.batch] for i in range(0, len(held), plan.batch)]
    right = torch.cat([drafter.score(pad(group, plan.device)) for group in groups])
    torch.set_rng_state(state)
    length = 1 + float(right.cumprod(1).sum(1).mean())
    return {"accepted_length": round(length, 4), "right": [round(float(share), 4) for share in right.mean(0)]}


def resume(out: Path, drafter: Drafter, optimizers: Sequence[torch.optim.Optimizer]) -> tuple[int, list[Any], float]:
    """Steps done, the curve and the seconds, from the checkpoint in `out` if there is one."""
    file = out / "training.pt"
    if not file.exists():
        return 0, [], 0.0
    saved = torch.load(file, weights_only=True)
    drafter.load_state_dict(saved["drafter"])
    for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    return saved["step"], saved["curve"], saved["seconds"]


def save(out: Path, drafter: Drafter, optimizers: Sequence[torch.optim.Optimizer], progress: dict[str, Any]) -> None:
    """The checkpoint, the drafter's directory and the curve; each file is whole at every moment."""
    states = [optimizer.state_dict() for optimizer in optimizers]
    checkpoint = out / "training.pt"
    with_name = checkpoint.with_suffix(".tmp")
    torch.save({"drafter": drafter.state_dict(), "optimizers": states, **progress}, with_name)
    os.replace(with_name, checkpoint)
    write(drafter, out)
    replace_json(out / "curve.json", progress["curve"])


def write(drafter: Drafter, out: Path) -> None:
    """config.json and model.safetensors, in bfloat16."""
    config, weights = drafter.files()
    replace_json(out / "config.json", config)
    save_file({name: stored(weight) for name, weight in weights.items()}, out / "model.tmp", {"format": "pt"})
    os.replace(out / "model.tmp", out / "model.safetensors")


def stored(weight: Tensor) -> Tensor:
    """As a file holds it."""
    return (weight if weight.dtype in INTEGERS else weight.bfloat16()).detach().cpu().contiguous()


def replace_json(file: Path, content: Any) -> None:
    """Write `content`, at once."""
    part = file.with_suffix(".tmp")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, file)
