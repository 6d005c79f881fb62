"""Everything about a bundle's text in one object."""

from __future__ import annotations

from functools import cached_property

from dspark_engines.bundle import Bundle
from dspark_engines.errors import RequestError
from dspark_engines.text.chat import ChatTemplate
from dspark_engines.text.stream import TextStream
from dspark_engines.text.tokenizer import TEMPLATE_FILE, BundleTokenizer


class TextCodec:
    """Prompts to token ids, token ids to text, for one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        folder, target = bundle.file("tokenizer"), bundle.manifest.target
        self.tokenizer = BundleTokenizer(folder, target.bos_token_id if target.add_bos else None)
        self._template, self._target = folder / TEMPLATE_FILE, target

    @cached_property
    def _chat(self) -> ChatTemplate | None:
        """The bundle's template, compiled when first needed: raw prompts do without a good one."""
        if not self._template.is_file():
            return None
        eos = self._target.eos_token_ids[0] if self._target.eos_token_ids else None
        return ChatTemplate(
            self._template.read_text("utf-8"),
            bos_token=self.tokenizer.token(self._target.bos_token_id),
            eos_token=self.tokenizer.token(eos),
        )

    def prompt_ids(self, prompt: str, *, raw: bool = False) -> list[int]:
        """Token ids of a prompt: through the chat template, unless `raw`.

        Raises `RequestError`, or `BundleError` when the template is not Jinja.
        """
        if not prompt.strip():
            raise RequestError("the prompt is empty", hint="pass --prompt TEXT, or text on standard input")
        if raw:
            return self.tokenizer.encode(prompt)
        if self._chat is None:
            raise RequestError("this bundle has no chat template", hint="use --raw to send the prompt as it is")
        return self.tokenizer.encode(self._chat.render(prompt), complete=True)

    def stream(self) -> TextStream:
        """A fresh incremental detokenizer."""
        return TextStream(self.tokenizer)
