"""The model's chat template: Jinja in a sandbox, since it comes with the checkpoint."""

from __future__ import annotations

from datetime import datetime
from typing import NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dspark_engines.errors import BundleError, RequestError


class ChatTemplate:
    """Renders a conversation the way the target was trained to read it."""

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "") -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals.update(raise_exception=_refuse, strftime_now=lambda f: datetime.now().strftime(f))
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise BundleError(f"chat template: {error}", hint="use --raw to send prompts as they are") from error
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

    def render(self, prompt: str) -> str:
        """The text for one user turn, ending where the assistant's begins. Raises `RequestError`."""
        messages = [{"role": "user", "content": prompt}]
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._tokens)
        except Exception as error:  # the template is outside code: it may divide by zero as well
            raise RequestError(
                f"the chat template refuses this prompt: {error or type(error).__name__}",
                hint="use --raw to send it as it is",
            ) from error


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
