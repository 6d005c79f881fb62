"""Answers of the target with its states: to prompts of a file, and to questions that the target asks itself."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from training.data import Answer
from training.problems import TrainingError
from training.target import tap_layers

OPENERS = (
    *("", "", "", "How ", "What ", "Write ", "Explain ", "Why ", "Can you ", "Tell me ", "Create ", "List ", "Solve "),
    *("Summarize ", "Describe ", "Compose an email ", "Give me ", "Imagine ", "Rewrite ", "Translate ", "Calculate "),
    *("Write a Python function ", "Write a Python program that ", "Write a function to "),
)
"""How the target's own questions begin."""
ASKING: dict[str, Any] = {"do_sample": True, "min_p": 0.02, "top_k": 0, "max_new_tokens": 40}
GREEDY: dict[str, Any] = {"do_sample": False}
DRAWN: dict[str, Any] = {"do_sample": True, "temperature": 0.8, "top_k": 0}
OWN_SHARE, GREEDY_SHARE = 0.4, 0.7
"""Of the shards: with questions of the target's own; with greedy answers."""
NUL = "\x00"


@dataclass(frozen=True, kw_only=True)
class Work:
    """How much."""

    minutes: float = 60.0
    batch: int = 64
    """Answers a shard."""
    tokens: int = 256
    """Of an answer, at most."""
    prompt_tokens: int = 240
    taps: int = 5


class Answerer:
    """A target with its tokenizer and chat template."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        whole = tokenizer.apply_chat_template(
            [{"role": "user", "content": NUL}], tokenize=False, add_generation_prompt=True
        )
        self.before, self.after = whole.split(NUL)
        self.end: int = tokenizer.eos_token_id

    def ids(self, prompt: str) -> list[int]:
        """Of a prompt in the chat template."""
        return list(self.tokenizer(self.before + prompt + self.after, add_special_tokens=False).input_ids)

    def continued(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        """The tokens after each of `texts`, up to and with the end."""
        encoded = self.tokenizer(list(texts), return_tensors="pt", padding=True, add_special_tokens=False)
        encoded = encoded.to(self.model.device)
        model: Any = self.model
        out = model.generate(**encoded, eos_token_id=self.end, pad_token_id=0, **options)
        rows = out[:, encoded.input_ids.shape[1] :].tolist()
        return [row[: row.index(self.end) + 1] if self.end in row else row for row in rows]

    def questions(self, count: int, rng: random.Random) -> list[str]:
        """What the target asks when it writes the user's part."""
        openers = [rng.choice(OPENERS) for _ in range(count)]
        rows = self.continued([self.before + opener for opener in openers], **ASKING)
        texts = [opener + self.tokenizer.decode(row) for opener, row in zip(openers, rows, strict=True)]
        return [text.split(self.tokenizer.decode([self.end]))[0].strip() for text in texts]

    @torch.inference_mode()
    def answer(self, prompt: list[int], answer: list[int], taps: int) -> Answer:
        """An answer with the states that training needs."""
        ids = torch.tensor([prompt + answer], device=self.model.device)
        seen = self.model(ids[:, :-1], output_hidden_states=True)
        states: tuple[Tensor, ...] = seen.hidden_states
        layers = tap_layers(self.model.config.num_hidden_layers, taps)
        first = len(prompt) - 1
        return {
            "ids": ids[0].int().cpu(),
            "prompt_len": len(prompt),
            "feats": torch.cat([states[layer + 1][0] for layer in layers], -1).half().cpu(),
            "last": states[-1][0, first:].half().cpu(),
            "lse": torch.logsumexp(seen.logits[0, first:].float(), -1).cpu(),
        }


def generate(answerer: Answerer, prompts: Sequence[str], out: Path, work: Work) -> None:
    """Add shards to `out` until the time is up; a shard is whole or not there."""
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * work.minutes
    while time.monotonic() < end:
        number = len(list(out.glob("*.pt")))
        torch.manual_seed(1000 + number)
        rows = shard(answerer, prompts, work, random.Random(1000 + number))
        torch.save(rows, out / f"{number:05d}.tmp")
        os.replace(out / f"{number:05d}.tmp", out / f"{number:05d}.pt")
        tokens = sum(len(row["ids"]) - row["prompt_len"] for row in rows)
        print(f"shard {number}: {len(rows)} answers, {tokens} tokens", flush=True)


def shard(answerer: Answerer, prompts: Sequence[str], work: Work, rng: random.Random) -> list[Answer]:
    """Answers of at least two tokens to one kind of question, decoded in one way."""
    own = not prompts or rng.random() < OWN_SHARE
    asked = answerer.questions(work.batch, rng) if own else rng.sample(list(prompts), min(work.batch, len(prompts)))
    asked = [text for text in asked if text and len(answerer.ids(text)) <= work.prompt_tokens]
    options = GREEDY if rng.random() < GREEDY_SHARE else DRAWN
    texts = [answerer.before + text + answerer.after for text in asked]
    answered = answerer.continued(texts, max_new_tokens=work.tokens, **options) if texts else []
    pairs = zip(map(answerer.ids, asked), answered, strict=True)
    return [answerer.answer(prompt, answer, work.taps) for prompt, answer in pairs if len(answer) > 1]


def read_prompts(file: Path) -> list[dict[str, str]]:
    """Lines of JSON with a `prompt`, and perhaps a `source`; a line ends at a line feed and nowhere else."""
    if not file.is_file():
        raise TrainingError(f"{file}: no such file", hint="give prompts as JSON lines, each with a `prompt`")
    lines = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line.strip()]
