"""The text of a GGUF file: tokenizer, names, template, stops, and what llama.cpp puts around a prompt."""

from __future__ import annotations

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.gguf_file import CONVERT_AGAIN, GgufFile
from dspark_export.checkpoints.spec import TargetSpec
from dspark_export.checkpoints.text.gguf_gemma4 import GEMMA4
from dspark_export.checkpoints.text.gguf_stops import PREFIX, gguf_stops
from dspark_export.checkpoints.text.gguf_tokenizer import LLAMA3, read_gguf_tokenizer
from dspark_export.checkpoints.text.spec import TargetText
from dspark_export.checkpoints.text.template_check import check_template

NAMES = {
    "bos_token": ("bos_token_id",),
    "eos_token": ("eos_token_id",),
    "unk_token": ("unknown_token_id",),
    "sep_token": ("separator_token_id", "seperator_token_id"),  # the second is how GGUF spelled it for years
    "pad_token": ("padding_token_id",),
    "mask_token": ("mask_token_id",),
}


def read_gguf_text(file: GgufFile, spec: TargetSpec) -> TargetText:
    """Raises `CheckpointError` for a tokenizer of another kind, or a template that cannot work."""
    template = file.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise CheckpointError(f"{file.path}: tokenizer.chat_template is no text", hint=CONVERT_AGAIN)
    begin = file.get(f"{PREFIX}add_bos_token", file.get(f"{PREFIX}pre") in LLAMA3)
    if file.get(f"{PREFIX}model") == GEMMA4:
        begin = True  # llama.cpp has it so whatever the file says, for older ones say no
    text = TargetText(
        tokenizer_json=read_gguf_tokenizer(file),
        special_tokens=_names(file),
        chat_template=template,
        stop_tokens=gguf_stops(file),
        add_bos=bool(begin) and spec.bos_token_id is not None,
        add_eos=bool(file.get(f"{PREFIX}add_eos_token", False)),
    )
    check_template(file.path, text, spec.vocab_size)
    return text


def _names(file: GgufFile) -> dict[str, str]:
    """Named tokens by their ids; an id beyond the vocabulary names nothing."""
    tokens: list[str] = file.require(f"{PREFIX}tokens", list)
    ids = {name: [file.get(PREFIX + key) for key in keys] for name, keys in NAMES.items()}
    chosen = {name: next((index for index in found if index is not None), None) for name, found in ids.items()}
    return {name: tokens[index] for name, index in chosen.items() if index is not None and index < len(tokens)}
