"""The speculators library's own modules beside our oracle and our graph, where its source is at hand.

DSPARK_TEST_SPECULATORS names a folder that holds the package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dspark_export.checkpoints import open_drafter, open_target
from tests.support import tiny
from tests.support.block_drafts import Draft, compare, our_drafts
from tests.support.stand_in_modules import stand_in

SOURCE = os.environ.get("DSPARK_TEST_SPECULATORS", "")
pytestmark = pytest.mark.skipif(not SOURCE, reason="DSPARK_TEST_SPECULATORS names no folder with the package")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

UNUSED = "openai openai.types openai.types.chat openai.types.completion datasets hs_connectors"
LENGTH, WINDOW, ANCHORS = 40, 7, (4, 23)
"""Of a sequence, of layers that slide, and where blocks begin: inside the first window and behind it."""
FULL, SLIDING = "full_attention", "sliding_attention"
LAYERS = {
    "full": ((FULL, FULL), False),
    "one slides": ((SLIDING, FULL), False),
    "both slide, blocks see ahead": ((SLIDING, SLIDING), True),
}
"""The kinds of both layers, and `sliding_window_non_causal`."""
HEADS: dict[str, dict[str, Any]] = {
    "dflash": {},
    "none": {"markov_rank": 0, "confidence_head_with_markov": False},
    "vanilla": {"markov_rank": tiny.RANK},
    "gated": {"markov_rank": tiny.RANK, "markov_head_type": "gated"},
    "rnn": {"markov_rank": tiny.RANK, "markov_head_type": "rnn"},
}
CASES = [
    (heads, layers, anchor, vocabulary)
    for heads, layers, anchor, vocabulary in product(HEADS, LAYERS, ("predicts", "given"), ("whole", "reduced"))
    if (heads, anchor) != ("rnn", "given")  # refused
]
KEPT = range(0, tiny.VOCAB, 2)


@pytest.fixture(scope="module")
def library() -> Iterator[SimpleNamespace]:
    """Its classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [SOURCE, *sys.path])
        stand_in(patch, *UNUSED.split())
        from speculators import config
        from speculators.models import dflash, dspark
        from speculators.proposals import greedy

        yield SimpleNamespace(**{name: x for m in (config, greedy, dflash, dspark) for name, x in vars(m).items()})


def their_config(library: SimpleNamespace, heads: str, layers: str, anchor: str, vocabulary: str) -> Any:
    (types, ahead), predicts = LAYERS[layers], anchor == "predicts"
    method, words = ("dflash" if heads == "dflash" else "dspark"), tiny.BLOCK - (not predicts)
    keys = tiny.decoder_config(tiny.drafter_spec().shape) | {"layer_types": list(types), "max_window_layers": 0}
    decoder = transformers.Qwen3Config(**keys, use_sliding_window=SLIDING in types, sliding_window=WINDOW)
    decoder._attn_implementation = "eager"
    proposal = library.GreedyTokenProposalConfig(speculative_tokens=words)
    verifier = library.VerifierConfig(name_or_path=None, architectures=["LlamaForCausalLM"])
    return getattr(library, "DFlashSpeculatorConfig" if method == "dflash" else "DSparkSpeculatorConfig")(
        transformer_layer_config=decoder,
        draft_vocab_size=len(KEPT) if vocabulary == "reduced" else tiny.VOCAB,
        block_size=tiny.BLOCK,
        aux_hidden_state_layer_ids=[tap + 1 for tap in tiny.TAPS],
        mask_token_id=3,
        sample_from_anchor=predicts,
        sliding_window_non_causal=ahead,
        speculators_config=library.SpeculatorsConfig(
            algorithm=method, proposal_methods=[proposal], default_proposal_method="greedy", verifier=verifier
        ),
        **HEADS[heads],
    )


def their_model(library: SimpleNamespace, config: Any, table: np.ndarray) -> Any:
    """Random, with the target's `table` for embedding, and for head where the vocabulary is whole."""
    dflash = isinstance(config, library.DFlashSpeculatorConfig) and config.speculators_model_type == "dflash"
    model = (library.DFlashDraftModel if dflash else library.DSparkDraftModel)(config).eval().float()
    arrays = tiny.random_tensors({name: tuple(x.shape) for name, x in model.named_parameters()})
    arrays["embed_tokens.weight"] = table
    if config.draft_vocab_size == tiny.VOCAB:
        arrays["lm_head.weight"] = table
    else:
        kept = torch.tensor(KEPT)
        model.load_vocab_mappings(torch.isin(torch.arange(tiny.VOCAB), kept), kept - torch.arange(len(kept)))
    model.load_state_dict({name: torch.from_numpy(x) for name, x in arrays.items()}, strict=False)
    return model.requires_grad_(False)


def their_blocks(model: Any, taps: Any, ids: Any) -> Iterator[tuple[Any, Any]]:
    """States [B, H] and base logits [B, Vd] of the blocks at `ANCHORS`."""
    trained = torch.zeros(1, LENGTH)
    trained[0, list(ANCHORS)] = 1
    last, documents = torch.zeros(1, LENGTH, tiny.HIDDEN), torch.zeros(1, LENGTH, dtype=torch.long)
    hidden, logits, *_ = model._backbone_forward(
        taps[None], ids[None], trained, last, documents, None, max_anchors=len(ANCHORS)
    )
    yield from zip(hidden[0].split(tiny.BLOCK), logits[0].split(tiny.BLOCK), strict=True)


def their_draft(model: Any, hidden: Any, base: Any, anchor: int) -> Draft:
    """The block's best tokens, each position's heads seeing the token before it; of those that predict."""
    first, markov = 1 - model.config.sample_from_anchor, getattr(model, "markov_head", None)
    previous, logits = torch.full((1, tiny.BLOCK), anchor), base.clone()
    ids = torch.zeros(tiny.BLOCK, dtype=torch.long)
    places = torch.arange(tiny.VOCAB) if model.d2t is None else model.d2t + torch.arange(len(model.d2t))
    for j in range(first, tiny.BLOCK):
        if markov is not None:
            logits[j] += markov.block_bias(prev_token_ids=previous, hidden_states=hidden[None])[0, j]
        ids[j] = places[logits[j].argmax()]
        previous[0, j + 1 : j + 2] = ids[j]
    confidence, seen = torch.full((tiny.BLOCK,), torch.inf), hidden
    if getattr(model, "confidence_head", None) is not None:
        if model.config.confidence_head_with_markov:
            seen = torch.cat([hidden, markov.prev_embeddings(previous)[0]], dim=-1)
        confidence = model.confidence_head(seen)
    wide = torch.full((tiny.BLOCK, tiny.VOCAB), -torch.inf).index_copy(1, places, logits)
    found = {"ids": ids, "logits": wide, "confidence": confidence, "hidden": hidden}
    return {name: tensor[first:].numpy() for name, tensor in found.items()}


@pytest.mark.parametrize(("heads", "layers", "anchor", "vocabulary"), CASES)
def test_drafts_are_the_library_s(
    heads: str, layers: str, anchor: str, vocabulary: str, library: SimpleNamespace, tmp_path: Path
) -> None:
    target = open_target(tiny.write_target(tmp_path / "target"))
    table = target.weights["embed_tokens.weight"]
    model = their_model(library, their_config(library, heads, layers, anchor, vocabulary), table)
    model.save_pretrained(tmp_path / "drafter")
    drafter = open_drafter(tmp_path / "drafter", target.spec)
    random = np.random.default_rng(2)
    taps = torch.from_numpy(random.standard_normal((LENGTH, drafter.spec.feature_size), np.float32))
    ids = torch.from_numpy(random.integers(0, tiny.VOCAB, LENGTH))
    tables = dict.fromkeys(("embed_tokens.weight", "lm_head.weight"), table)
    for at, (hidden, base) in zip(ANCHORS, their_blocks(model, taps, ids), strict=True):
        anchor_id = int(ids[at])
        ours = our_drafts(drafter, taps[:at].numpy(), anchor_id, tmp_path, tables)
        compare(f"{heads}, {layers}, {anchor}, {vocabulary}", ours, their_draft(model, hidden, base, anchor_id))
