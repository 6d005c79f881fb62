"""What ends a sequence in a GGUF file, as llama.cpp gathers it (src/llama-vocab.cpp, `special_eog_ids`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dspark_engines.bundle import StopToken
from dspark_export.checkpoints.gguf_file import GgufFile

PREFIX = "tokenizer.ggml."
STRUCK_OUT = "</s>"
"""In Gemma 4's vocabulary the end of HTML's element, and no token that controls anything."""
BY_TEXT = "its text, which llama.cpp knows"

END_TEXTS = frozenset(
    {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", STRUCK_OUT, "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
        "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",  # noqa: RUF001  DeepSeek's bars
    }
)  # fmt: skip
"""Ends of sequences, turns and messages that it knows by their text, whatever their type in the file."""

INFILLING = {
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}
"""Tokens that separate files when a model fills gaps in code: one of each, by its key or by its text."""

EXCEPTIONS = (
    ({"<|return|>", "<|call|>"}, "<|end|>"),
    ({"<|call|>", "<|flush|>"}, "<|end|>"),
    ({"<|calls|>", "<|return|>"}, "<|end|>"),
    ({"<|calls|>", "<|flush|>"}, "<|end|>"),
    ({"<|tool_response>"}, STRUCK_OUT),
)
"""Where all of these end a sequence, that one does not."""


def gguf_stops(file: GgufFile) -> tuple[StopToken, ...]:
    """The file's eos token first. Keys whose id is none of the vocabulary are passed over."""
    tokens: list[str] = file.require(f"{PREFIX}tokens", list)
    found: dict[int, StopToken] = {}
    for index, source in (*_by_key(file), *_by_text(file, tokens)):
        if index < len(tokens):
            found.setdefault(index, StopToken(id=index, token=tokens[index], source=source))
    texts = {stop.token for stop in found.values()}
    exempt = {token for others, token in EXCEPTIONS if others <= texts}
    return tuple(stop for stop in found.values() if stop.token not in exempt)


def plain_texts(tokens: Collection[str]) -> set[str]:
    """Of `END_TEXTS`, what is plain text in this vocabulary: llama.cpp takes that type from it again."""
    return {token for others, token in EXCEPTIONS if token == STRUCK_OUT and others <= set(tokens)}


def _by_key(file: GgufFile) -> Iterator[tuple[int, str]]:
    for name in ("eos", "eot", "eom"):
        key = f"{PREFIX}{name}_token_id"
        if file.get(key) is not None:
            yield int(file.get(key)), key


def _by_text(file: GgufFile, tokens: list[str]) -> Iterator[tuple[int, str]]:
    for index, token in enumerate(tokens):
        if token in END_TEXTS:
            yield index, BY_TEXT
    for name, texts in INFILLING.items():
        key = f"{PREFIX}{name}_token_id"
        if file.get(key) is not None:
            yield int(file.get(key)), key
        else:
            yield from ((index, BY_TEXT) for index, token in enumerate(tokens) if token in texts)
