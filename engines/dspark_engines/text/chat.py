"""The model's chat template: conversations to text, as transformers' `apply_chat_template` renders them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from dspark_engines.errors import BundleError, RequestError
from dspark_engines.text.environment import chat_environment

Message = Mapping[str, Any]
"""`role` and `content`, and whatever else the template reads (tool_calls, reasoning_content, …)."""

REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names that a message's reasoning goes by; templates read the first, some the second."""


class ChatTemplate:
    """Renders a conversation the way the target was trained to read it.

    `tokens` are the tokenizer's named tokens (bos_token, eos_token, …): a token that it does not name is undefined in
    the template, which writes nothing for it. Raises `BundleError` when `source` is not Jinja.
    """

    def __init__(self, source: str, tokens: Mapping[str, str] | None = None) -> None:
        try:
            self._template = chat_environment().from_string(source)
        except (TemplateError, RecursionError) as error:
            raise BundleError(f"chat template: {error}", hint="use --raw to send prompts as they are") from error
        self._tokens = dict(tokens or {})

    def render(self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The text of a conversation, ending where the assistant's turn begins. Raises `RequestError`.

        Keys that are None are left out, and `tools` and `documents` are None where there are none: transformers'
        `apply_chat_template` does the same.
        """
        if not messages:
            raise RequestError("the conversation is empty", hint="send at least one message")
        conversation = [_complete(message) for message in messages]
        known = {"messages": conversation, "tools": tools, "documents": None, "add_generation_prompt": True}
        try:
            return self._template.render(self._tokens | known)
        except Exception as error:  # the template is outside code: it may divide by zero as well
            raise RequestError(
                f"the chat template refuses this prompt: {error or type(error).__name__}",
                hint="use --raw to send it as it is",
            ) from error

    def render_turn(self, prompt: str) -> str:
        """The text of one user's turn. Raises `RequestError`."""
        return self.render([{"role": "user", "content": prompt}])


def _complete(message: Message) -> dict[str, Any]:
    """The message without empty keys, its reasoning under every name that templates read."""
    known = {key: value for key, value in message.items() if value is not None}
    reasoning = next((known[name] for name in REASONING if name in known), None)
    if reasoning is None:
        return known
    return {"thinking": reasoning, **known, "reasoning_content": reasoning}
