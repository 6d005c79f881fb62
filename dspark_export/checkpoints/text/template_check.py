"""A chat template is tried at build: one that can never work shall not be found out by the first prompt."""

from __future__ import annotations

import warnings
from pathlib import Path

from tokenizers import Tokenizer

from dspark_engines.errors import BundleError, CheckpointError, RequestError
from dspark_engines.text import ChatTemplate
from dspark_engines.text.chat import Message
from dspark_export.checkpoints.text.spec import TargetText

SYSTEM: Message = {"role": "system", "content": "You are a helpful assistant."}
USER: Message = {"role": "user", "content": "Hello"}
PARTS: Message = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}
PROBES = ([USER], [SYSTEM, USER], [PARTS], [SYSTEM, PARTS])
"""Some templates demand a system message, some take content in parts."""

WITHOUT = "correct the template, or remove it for a bundle that takes raw prompts only"


def check_template(path: Path, text: TargetText, vocab_size: int) -> None:
    """Raises `CheckpointError` when the template is no Jinja, refuses every conversation, or writes unknown tokens."""
    if text.chat_template is None:
        return
    rendered = _render(path, text, text.chat_template)
    tokenizer = Tokenizer.from_str(text.tokenizer_json)
    tokenizer.encode_special_tokens = text.split_special_tokens
    try:
        ids = tokenizer.encode(rendered, add_special_tokens=False).ids
    except TypeError:  # the library's word for half of a surrogate pair
        raise CheckpointError(f"{path}: chat template: writes half of a surrogate pair", hint=WITHOUT) from None
    outside = next((token for token in ids if token >= vocab_size), None)
    if outside is not None:
        raise CheckpointError(
            f"{path}: the chat template writes the token {tokenizer.id_to_token(outside)} (id {outside}), beyond the "
            f"model's vocabulary of {vocab_size}",
            hint="the tokenizer has tokens that the model's embedding lacks: resize the embedding, or use the template "
            "and tokenizer that the model was trained with",
        )


def _render(path: Path, text: TargetText, source: str) -> str:
    try:
        source.encode("utf-8")
        template = ChatTemplate(source, text.special_tokens)
    except (UnicodeEncodeError, BundleError) as error:
        message = str(error).removeprefix("chat template: ")
        raise CheckpointError(f"{path}: chat template: {message}", hint=WITHOUT) from None
    refusals: list[str] = []
    for messages in PROBES:
        try:
            rendered = template.render(messages)
        except RequestError as error:
            refusals.append(str(error.__cause__ or error))
            continue
        if refusals:
            message = f"{path}: the chat template refuses a user's turn that stands by itself: {refusals[0]}"
            warnings.warn(message, RuntimeWarning, stacklevel=3)
        return rendered
    raise CheckpointError(f"{path}: the chat template refuses every conversation: {refusals[0]}", hint=WITHOUT)
