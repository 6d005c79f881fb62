"""Does whoever decides over drafts in production decide as the exported accept graph does?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dspark_engines.arrays import Floats
from dspark_engines.backends import Engines
from dspark_engines.bundle import Bundle
from dspark_engines.sampling import verify_trial
from dspark_engines.sampling.contract import Trial, Verified
from dspark_export.checks.tolerances import Comparison
from dspark_export.reference_graph import ReferenceGraph

TEMPERATURES = (0.0, 0.7, 1.0)
LIKELY = 0.8
"""How often a draft is the target's own choice, so that blocks are accepted to all kinds of lengths."""
SHARPNESS = 4.0
"""How far a drafted token stands out in the drafter's logits."""


def compare_decisions(bundle: Bundle, engines: Engines, random: np.random.Generator) -> Iterator[Comparison]:
    """Whole blocks on trial, greedy and sampled, on the engine's own logits: counts and tokens are equal.

    Engines that decide do so on the device, for others the host does. Nothing for bundles without that graph.
    """
    graph = bundle.manifest.graphs.get("accept")
    if graph is None:
        return
    reference, block = ReferenceGraph(bundle.file(graph.path), 1, 0), bundle.manifest.drafter.block_size
    vocabulary, slot = bundle.manifest.target.vocab_size, engines.verify.new_slot()
    wrong = np.zeros(len(Verified._fields), np.int64)
    for length in range(block + 1):
        for temperature in TEMPERATURES:
            step = ([slot], random.integers(0, vocabulary, length + 1), np.array([length + 1]), np.array([0]))
            asked = np.arange(length + 1)
            logits = engines.verify.step(*step, asked).logits.copy()
            trial = _trial(logits, block, temperature, random)
            verified = None
            if engines.verify.decides(temperature > 0):
                verified = engines.verify.step_and_decide(*step, asked, trial).verified
            expected = reference.step(logits=logits, **trial._asdict())
            for index, (name, ours) in enumerate((verified or verify_trial(logits, trial))._asdict().items()):
                wrong[index] += int((ours != expected[name]).sum())
    for name, count in zip(Verified._fields, wrong.tolist(), strict=True):
        yield Comparison(f"accept.{name}", count, count, float("inf") if count else 0.0)


def _trial(logits: Floats, block: int, temperature: float, random: np.random.Generator) -> Trial:
    """One row, all of whose lines but the last have a draft on trial."""
    length, vocabulary = len(logits) - 1, logits.shape[1]
    ids = random.integers(0, vocabulary, (1, block))
    likely = random.random(length) < LIKELY
    ids[0, :length] = np.where(likely, logits[:length].argmax(-1), ids[0, :length])
    drafts = random.standard_normal((1, block, vocabulary), np.float32)
    drafts[0, :length] += logits[:length]
    np.put_along_axis(drafts, ids[:, :, None], drafts.max(-1, keepdims=True) + SHARPNESS, -1)
    uniforms = random.random((1, block + 1, 2), np.float32)
    return Trial(ids, drafts, np.array([length]), np.full(1, temperature, np.float32), uniforms)
