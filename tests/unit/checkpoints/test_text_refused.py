"""What is refused of a text: files when a bundle is built, prompts afterwards. And which tokens stop an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspark_engines.errors import CheckpointError, RequestError
from tests.support import tiny
from tests.support.tiny_text import FAST, NAMES, codec, read_text, words, write_text

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "class": ({"tokenizer_class": "CodeLlamaTokenizer"}, "tokenizer_class CodeLlamaTokenizer is not supported"),
    "code": ({"auto_map": {"AutoTokenizer": ["a.B", None]}}, "auto_map: the tokenizer has Python code of its own"),
    "versions": ({"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}, "fast_tokenizer_files names several"),
    "name": (FAST | {"eos_token": False}, "tokenizer_config.json: eos_token is False, not a token"),
    "decoder": (FAST | {"added_tokens_decoder": {"5": "<x>"}}, "tokenizer_config.json: added_tokens_decoder"),
    "template": (FAST | {"chat_template": 5}, "tokenizer_config.json: chat_template is no text"),
    "no name": (FAST | {"chat_template": [{"template": "x"}]}, "chat_template has an entry without name"),
    "surrogate": (FAST | {"chat_template": "a\ud83d"}, "chat template: .*surrogate"),
    "made surrogate": (FAST | {"chat_template": "{{ '\\ud83d' }}"}, "chat template: .*surrogate"),
    "no Jinja": (FAST | {"chat_template": "{% for m in messages %}"}, "chat template: .*endfor"),
    "never": (FAST | {"chat_template": "{{ raise_exception('no') }}"}, "refuses every conversation: no"),
    "beyond": (FAST | {"chat_template": "<new>", "eos_token": "<new>"}, r"writes the token <new> \(id 271\)"),
    "not BPE": ({"tokenizer_class": "GPT2Tokenizer"}, "its model is WordLevel, the tokenizer_class needs BPE"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_followed_is_refused_at_build(tmp_path: Path, case: str) -> None:
    config, message = REFUSED[case]
    write_text(tmp_path, words() if case == "not BPE" else None, config, template=None)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_text(tmp_path, vocab_size=271)
    assert caught.value.hint


def test_the_tokenizers_own_end_is_a_stop(tmp_path: Path) -> None:
    write_text(tmp_path, config=FAST | NAMES)
    stops = [(stop.id, stop.token, stop.source) for stop in read_text(tmp_path).stop_tokens]
    assert stops == [(2, "</s>", "config.json"), (5, "<|im_end|>", "the tokenizer's eos_token")]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    assert read_text(tmp_path).stop_tokens[0].source == "generation_config.json"


def test_an_end_that_the_model_lacks_is_no_stop(tmp_path: Path) -> None:
    write_text(tmp_path, architecture="qwen3")  # its class calls <|endoftext|> the end: a new token
    assert [stop.id for stop in read_text(tmp_path, vocab_size=271).stop_tokens] == [2]


def test_prompts_that_no_model_can_read(tmp_path: Path) -> None:
    write_text(tmp_path, config=FAST | {"eos_token": "<new>"}, template=tiny.TEMPLATE)
    ours = codec(tmp_path, read_text(tmp_path, vocab_size=271), vocab_size=271)
    for raw in (True, False):
        with pytest.raises(RequestError, match=r"the token <new> \(id 271\), beyond the model's vocabulary of 271"):
            ours.prompt_ids("a<new>", raw=raw)
        with pytest.raises(RequestError, match="half of a surrogate pair at character 2"):
            ours.prompt_ids("ab\ud83d", raw=raw)
    with pytest.raises(RequestError, match="what the chat template made of the prompt is not Unicode"):
        ours.message_ids([{"role": "\udc00", "content": "a"}])
