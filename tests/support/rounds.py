"""Rounds whose truth is known, and traces of them on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dspark_calibration import PromptRef, PromptTrace, Rounds, TraceHeader, TraceStore


def known_rounds(count: int, temperatures: Sequence[float], *, seed: int = 0, per_prompt: int = 50) -> Rounds:
    """Rounds accepted with probability σ(c_j / T_j), so that these temperatures are right."""
    random = np.random.default_rng(seed)
    logits = random.normal(1.0, 2.0, (count, len(temperatures)))
    return Rounds(logits, draw(logits / np.array(temperatures), random), *context_and_prompt(count, per_prompt))


def draw(log_odds: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Accepted counts [n] when position j survives with σ(log_odds_j)."""
    accepted = random.random(log_odds.shape) < 1.0 / (1.0 + np.exp(-log_odds))
    return np.logical_and.accumulate(accepted, axis=1).sum(axis=1)


def context_and_prompt(count: int, per_prompt: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and prompt indices of `count` rounds."""
    place = np.arange(count)
    return 10 + place % per_prompt, place // per_prompt


def header(prompts: int = 4, *, block_size: int = 3, **changes: object) -> TraceHeader:
    """A header of `prompts` prompts of two sources."""
    refs = [PromptRef(id=f"p/{i}", source="ab"[i % 2]) for i in range(prompts)]
    fields = {"bundle": "a" * 64, "block_size": block_size, "prompts_sha256": "b" * 64, "max_new_tokens": 8}
    return TraceHeader(**{**fields, "temperature": 0.0, "seed": 0, "prompts": refs, **changes})


def trace(rounds: int, block_size: int = 3, seed: int = 0) -> PromptTrace:
    """A sound trace; the last of several rounds is cut."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rounds, block_size)).astype(np.float32)
    proposed = np.full(rounds, block_size, np.int16)
    if rounds > 1:
        proposed[-1] = block_size - 1
    accepted = random.integers(0, proposed + 1).astype(np.int16)
    return PromptTrace(logits, proposed, accepted, np.arange(rounds, dtype=np.int32))


def write_traces(folder: Path, head: TraceHeader, indices: Sequence[int]) -> TraceStore:
    """A store with traces of these prompts; their length and content follow from the index."""
    store = TraceStore.create(folder, head)
    for index in indices:
        store.write(index, trace(index, head.block_size, index))
    return store


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
