"""The text of a Hugging Face directory: tokenizer, names, template, stops."""

from __future__ import annotations

from pathlib import Path

from dspark_engines.bundle import StopToken
from dspark_export.checkpoints.config_file import GenerationConfig, parse_config
from dspark_export.checkpoints.spec import TargetSpec
from dspark_export.checkpoints.text.hf_template import read_hf_chat_template
from dspark_export.checkpoints.text.hf_tokenizer import HfTokenizer, read_hf_tokenizer
from dspark_export.checkpoints.text.spec import TargetText
from dspark_export.checkpoints.text.template_check import check_template

GENERATION = "generation_config.json"


def read_hf_text(directory: Path, spec: TargetSpec) -> TargetText:
    """As `AutoTokenizer.from_pretrained` reads `directory`. Raises `CheckpointError`."""
    found = read_hf_tokenizer(directory, spec.vocab_size)
    text = TargetText(
        tokenizer_json=found.json,
        special_tokens=found.names,
        chat_template=read_hf_chat_template(directory, found.config),
        stop_tokens=_stops(directory, spec, found),
        split_special_tokens=bool(found.config.split_special_tokens),
        clean_up_spaces=found.clean_up_spaces,
    )
    check_template(directory, text, spec.vocab_size)
    return text


def _stops(directory: Path, spec: TargetSpec, found: HfTokenizer) -> tuple[StopToken, ...]:
    """The model's own ids, then the tokenizer's eos_token: fine-tunes often forget generation_config.json.

    A token that the model's vocabulary lacks cannot come.
    """
    path = directory / GENERATION
    generation = path.is_file() and parse_config(GenerationConfig, path).eos_ids()
    source = GENERATION if generation else "config.json"
    token = found.tokenizer.id_to_token
    stops = [
        StopToken(id=index, token=token(index) or "", source=source) for index in dict.fromkeys(spec.eos_token_ids)
    ]
    end = found.names.get("eos_token", "")
    index = found.tokenizer.token_to_id(end)
    if index is not None and index < spec.vocab_size and index not in spec.eos_token_ids:
        stops.append(StopToken(id=index, token=end, source="the tokenizer's eos_token"))
    return tuple(stops)
