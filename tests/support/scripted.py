"""A tiny pair that says a fixed chain of tokens, and whose drafter knows the chain: every draft is right.

The target's layers add next to nothing to a token's embedding, and its output layer answers each embedding with the
next token of the chain; the drafter's Markov head does the same from the token before.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dspark_export.checkpoints import MarkovSpec
from dspark_export.checkpoints.spec import AnchorMode
from tests.support import tiny
from tests.support.command_line import edit_tensors

FIRST, LAST = 4, 99
"""The chain runs through these ids in an order of its own, and begins again; the end of sequence is not among them."""
RANK = 64  # wide enough for the head to tell all tokens apart
LAYERS = 0.02
"""What is left of the layers' outputs: not nothing, so that a number that is wrong in them shows."""


def chain() -> dict[int, int]:
    """What follows on each token: one cycle."""
    order = np.random.default_rng(5).permutation(np.arange(FIRST, LAST + 1)).tolist()
    return dict(zip(order, order[1:] + order[:1], strict=True))


def continuation(token: int, count: int) -> list[int]:
    """The `count` tokens behind `token`."""
    following, result = chain(), []
    for _ in range(count):
        token = following[token]
        result.append(token)
    return result


def write_pair(folder: Path, max_positions: int = 256, anchor: AnchorMode = "predicts") -> tuple[Path, Path]:
    """Target and drafter directories."""
    target_spec = replace(tiny.target_spec(tied=False), max_positions=max_positions)
    drafter_spec = replace(tiny.drafter_spec(), markov=MarkovSpec("vanilla", RANK), anchor=anchor)
    target = tiny.write_target(folder / "target", target_spec)
    drafter = tiny.write_drafter(folder / "drafter", drafter_spec)
    for path in (target, drafter):
        tiny.edit_config(path, max_position_embeddings=max_positions)
    edit_tensors(target, _script_target)
    edit_tensors(drafter, _script_drafter)
    return target, drafter


def _script_target(tensors: dict[str, Any]) -> None:
    table = _unit_rows((tiny.VOCAB, tiny.HIDDEN), 7)
    head = np.zeros_like(table)
    for now, then in chain().items():
        head[then] = 4 * table[now]
    tensors["model.embed_tokens.weight"] = table * np.float32(8)
    tensors["lm_head.weight"] = head
    for name, value in tensors.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensors[name] = value * np.float32(LAYERS)
    tensors["model.norm.weight"] = np.ones_like(tensors["model.norm.weight"])


def _script_drafter(tensors: dict[str, Any]) -> None:
    first = _unit_rows((tiny.VOCAB, RANK), 3)
    second = np.zeros_like(first)
    for now, then in chain().items():
        second[then] = 100 * first[now]
    tensors["markov_head.markov_w1.weight"] = first * np.float32(3)
    tensors["markov_head.markov_w2.weight"] = second


def _unit_rows(shape: tuple[int, int], seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
