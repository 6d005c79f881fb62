"""Every method on the real target: its accepted length is that of the training's plain torch loop.

That loop (`examples/smollm2/training/measuring.py`) knows nothing of the runtime: transformers' target, the drafters as
they were trained, no caches of ours.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from dspark_engines import Bundle, GenerationRequest, Runtime, RuntimeOptions, open_bundle
from dspark_export.checkpoints import open_target
from dspark_export.prompts import encode_prompts, read_prompt_set
from tests.support.real_target import ROOT, target_file, target_model

EXAMPLE = ROOT / "examples" / "smollm2"
PLACES = {"dspark": EXAMPLE / "drafter"} | {name: EXAMPLE / "drafters" / name for name in ("dflash", "eagle3", "mtp")}
PROMPTS = ROOT / "calibration" / "prompts" / "evaluation.jsonl"
TOKENS, EVERY, END = 48, 16, 2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(smollm2_bundle: Path) -> Bundle:
    return open_bundle(smollm2_bundle)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Any:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return target_model(open_target(target_file(bundle)))


@pytest.mark.parametrize("name", PLACES)
def test_the_accepted_length_is_the_plain_loop_s(
    bundle: Bundle, model: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name not in bundle.drafters:
        pytest.skip(f"{bundle.path} has no drafter called {name}: make test builds it")
    monkeypatch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
    import torch

    from training.measuring import Tally, answer
    from training.opening import open_drafter

    view = bundle.with_drafter(name)
    drafter = open_drafter(PLACES[name], model, view.manifest.drafter.block_size)
    prompts = encode_prompts(bundle, read_prompt_set(PROMPTS)[::EVERY])
    with Runtime(view, RuntimeOptions(speculation="on", scheduler="fixed", max_batch=1)) as runtime:
        ours = runtime.generate(GenerationRequest(ids, TOKENS + view.manifest.drafter.block_size) for ids in prompts)
    tally = Tally()
    for ids, result in zip(prompts, ours, strict=True):
        said = answer(model, drafter.propose, torch.tensor(ids), TOKENS, END, tally)
        assert result.token_ids[:TOKENS] == said[:TOKENS]
    rounds = [round_ for result in ours for round_ in whole_rounds(result.rounds)]
    length = sum(round_.produced for round_ in rounds) / len(rounds)
    print(f"{name}: runtime {length:.4f}, plain loop {tally.length:.4f} tokens a round, {len(rounds)} rounds")
    assert len(rounds) == tally.rounds.total()
    assert length == pytest.approx(tally.length, abs=0.01)


def whole_rounds(rounds: Any) -> Any:
    """Those that begin before the plain loop ends, which lets its last one run over the limit."""
    produced = 1  # by the prompt
    for round_ in rounds:
        if produced >= TOKENS:
            return
        produced += round_.produced
        yield round_
