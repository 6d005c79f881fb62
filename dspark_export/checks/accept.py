"""Does production accept the drafts that the exported accept graph accepts?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dspark_engines.arrays import Floats
from dspark_engines.backends import Engines
from dspark_engines.bundle import Bundle
from dspark_engines.sampling import accept_step
from dspark_engines.sampling.contract import Accepted, AcceptInputs
from dspark_export.checks.tolerances import Comparison
from dspark_export.reference_graph import ReferenceGraph

TEMPERATURES = (0.0, 0.7, 1.0)
LIKELY = 0.8
"""How often a draft is the target's own choice, so that blocks are accepted to all kinds of lengths."""
SHARPNESS = 4.0
"""How far a drafted token stands out in the drafter's logits."""


def compare_accept(bundle: Bundle, engines: Engines, random: np.random.Generator) -> Iterator[Comparison]:
    """Whole blocks, greedy and sampled, on the engine's own logits: counts and tokens are equal.

    Engines that accept on the device do so here, for others the host does. Nothing for bundles without that graph.
    """
    graph = bundle.manifest.graphs.get("accept")
    if graph is None:
        return
    reference, block = ReferenceGraph(bundle.file(graph.path), 1, 0), bundle.manifest.drafter.block_size
    vocabulary, slot = bundle.manifest.target.vocab_size, engines.verify.new_slot()
    wrong = np.zeros(len(Accepted._fields), np.int64)
    for length in range(block + 1):
        for temperature in TEMPERATURES:
            step = ([slot], random.integers(0, vocabulary, length + 1), np.array([length + 1]), np.array([0]))
            asked = np.arange(length + 1)
            logits = engines.verify.step(*step, asked).logits.copy()
            inputs = _accept_inputs(logits, block, temperature, random)
            accepted = None
            if engines.verify.accepts_on_device(temperature > 0):
                accepted = engines.verify.step_and_accept(*step, asked, inputs).accepted
            expected = reference.step(logits=logits, **inputs._asdict())
            for index, (name, ours) in enumerate((accepted or accept_step(logits, inputs))._asdict().items()):
                wrong[index] += int((ours != expected[name]).sum())
    for name, count in zip(Accepted._fields, wrong.tolist(), strict=True):
        yield Comparison(f"accept.{name}", count, count, float("inf") if count else 0.0)


def _accept_inputs(logits: Floats, block: int, temperature: float, random: np.random.Generator) -> AcceptInputs:
    """One row, all of whose lines but the last have a draft."""
    length, vocabulary = len(logits) - 1, logits.shape[1]
    ids = random.integers(0, vocabulary, (1, block))
    likely = random.random(length) < LIKELY
    ids[0, :length] = np.where(likely, logits[:length].argmax(-1), ids[0, :length])
    drafts = random.standard_normal((1, block, vocabulary), np.float32)
    drafts[0, :length] += logits[:length]
    np.put_along_axis(drafts, ids[:, :, None], drafts.max(-1, keepdims=True) + SHARPNESS, -1)
    uniforms = random.random((1, block + 1, 2), np.float32)
    return AcceptInputs(ids, drafts, np.array([length]), np.full(1, temperature, np.float32), uniforms)
