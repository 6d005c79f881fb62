"""Everything about a bundle's text in one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from dspark_engines.bundle import Bundle, TargetInfo
from dspark_engines.errors import RequestError
from dspark_engines.text.chat import ChatTemplate, Message
from dspark_engines.text.stream import TextStream
from dspark_engines.text.tokenizer import TEMPLATE_FILE, BundleTokenizer, read_special_tokens


class TextCodec:
    """Prompts to token ids, token ids to text, for one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        target = bundle.manifest.target
        self._folder = bundle.file("tokenizer")
        self._target = target
        self.tokenizer = BundleTokenizer(
            self._folder,
            target.bos_token_id if target.add_bos else None,
            _first_end(target) if target.add_eos else None,
            split_special=target.split_special_tokens,
            clean_up=target.clean_up_spaces,
        )

    @cached_property
    def _tokens(self) -> dict[str, str]:
        """The tokens that templates know by name; bundles of older versions name two, by their ids."""
        named, token = read_special_tokens(self._folder), self.tokenizer.token
        if named is not None:
            return named
        return {"bos_token": token(self._target.bos_token_id), "eos_token": token(_first_end(self._target))}

    @cached_property
    def _chat(self) -> ChatTemplate | None:
        """The bundle's template, compiled when first needed: raw prompts do without a good one."""
        path = self._folder / TEMPLATE_FILE
        return ChatTemplate(path.read_bytes().decode("utf-8"), self._tokens) if path.is_file() else None

    @property
    def chats(self) -> bool:
        """Whether there is a chat template."""
        return self._chat is not None

    def prompt_ids(self, prompt: str, *, raw: bool = False) -> list[int]:
        """Token ids of a prompt: one user's turn through the chat template, unless `raw`.

        Raises `RequestError`, or `BundleError` when the template is not Jinja.
        """
        _check_text(prompt, "the prompt")
        if not prompt.strip():
            raise RequestError("the prompt is empty", hint="pass --prompt TEXT, or text on standard input")
        if raw:
            return self._checked(self.tokenizer.encode(prompt))
        return self.message_ids([{"role": "user", "content": prompt}])

    def message_ids(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Token ids of a conversation, ending where the assistant's turn begins. Raises as `prompt_ids` does."""
        if self._chat is None:
            raise RequestError("this bundle has no chat template", hint="use --raw to send the prompt as it is")
        text = self._chat.render(messages, tools=tools)
        _check_text(text, "what the chat template made of the prompt")
        return self._checked(self._encode_chat(text))

    def stream(self) -> TextStream:
        """A fresh incremental detokenizer."""
        return TextStream(self.tokenizer)

    def _encode_chat(self, text: str) -> list[int]:
        """As transformers (nothing is added), or where the bundle adds begin or end itself as llama.cpp.

        llama.cpp (common/chat.cpp) drops these tokens from the template's edges and adds them to every prompt, so that
        they come once whether the template writes them or not.
        """
        target = self._target
        if not target.add_bos and not target.add_eos:
            return self.tokenizer.encode(text, complete=True)
        if target.add_bos:
            text = text.removeprefix(self.tokenizer.token(target.bos_token_id))
        if target.add_eos:
            text = text.removesuffix(self.tokenizer.token(_first_end(target)))
        return self.tokenizer.encode(text)

    def _checked(self, ids: list[int]) -> list[int]:
        """Tokens may have been added to a tokenizer whose model was not enlarged for them."""
        size = self._target.vocab_size
        outside = next((token for token in ids if token >= size), None)
        if outside is not None:
            raise RequestError(
                f"the prompt holds the token {self.tokenizer.token(outside)} (id {outside}), beyond the model's "
                f"vocabulary of {size}",
                hint="the tokenizer has tokens that the model's embedding lacks: leave this one out of the prompt",
            )
        return ids


def _first_end(target: TargetInfo) -> int | None:
    """The token that the checkpoint itself names as its end; other stops come behind it."""
    return target.eos_token_ids[0] if target.eos_token_ids else None


def _check_text(text: str, what: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{what} is not Unicode text: half of a surrogate pair at character {error.start}",
            hint="send whole characters; a cut emoji looks like this",
        ) from None
