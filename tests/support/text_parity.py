"""One directory's text as a bundle has it and as transformers has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from dspark_engines.text import TextCodec
from tests.support.tiny_text import codec, read_text, write_text

transformers = pytest.importorskip("transformers")

Both = tuple[TextCodec, Any]


@pytest.fixture(scope="module", autouse=True)
def offline() -> Any:
    """transformers quiet, and away from the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        transformers.logging.set_verbosity_error()
        yield


def both(folder: Path, tokenizer: Tokenizer, config: dict[str, Any] | None, **options: Any) -> Both:
    """The codec of a bundle and transformers' tokenizer, of what `write_text` writes."""
    write_text(folder, tokenizer, config, **options)
    return codec(folder, read_text(folder)), transformers.AutoTokenizer.from_pretrained(str(folder))


def chat_ids(theirs: Any, messages: list[dict[str, Any]], **options: Any) -> list[int]:
    """transformers' ids of a conversation."""
    out = theirs.apply_chat_template(messages, add_generation_prompt=True, **options)
    ids: list[int] = out["input_ids"]
    return ids
