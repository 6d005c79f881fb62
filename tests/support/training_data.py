"""A tiny random target and stored answers of it, as `examples/smollm2/train.py` stores them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "examples" / "smollm2")]  # as for a script that stands there
HIDDEN, LAYERS, VOCABULARY = 32, 8, 96


def tiny_llama() -> LlamaForCausalLM:
    """Random weights, large enough that the layers do something."""
    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=HIDDEN, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, vocab_size=VOCABULARY, max_position_embeddings=128,
        initializer_range=0.2, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def answers(model: LlamaForCausalLM, count: int = 6) -> list[Any]:
    """Answers of the model to random prompts, with its states."""
    from training.target import tap_layers

    rows = []
    for seed in range(count):
        torch.manual_seed(seed)
        prompt = torch.randint(3, VOCABULARY, (1, 4 + seed))
        ids = model.generate(prompt, max_new_tokens=14 + seed, do_sample=False, eos_token_id=VOCABULARY)
        seen = model(ids[:, :-1], output_hidden_states=True)
        first = prompt.shape[1] - 1
        rows.append(
            {
                "ids": ids[0].int(),
                "prompt_len": prompt.shape[1],
                "feats": torch.cat([seen.hidden_states[tap + 1][0] for tap in tap_layers(LAYERS, 5)], -1).half(),
                "last": seen.hidden_states[-1][0, first:].half(),
                "lse": torch.logsumexp(seen.logits[0, first:].float(), -1),
            }
        )
    return rows
