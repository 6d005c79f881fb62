"""A bundle's text against transformers' own: ids of prompts and conversations, decoded text, names, templates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from dspark_engines.errors import CheckpointError, RequestError
from dspark_engines.text import TextCodec
from dspark_export.checkpoints.text.pipelines import PIPELINES
from dspark_export.checkpoints.text.tokenizer_class import OTHERS
from tests.support import chat_templates, tiny
from tests.support.tiny_text import FAST, NAMES, SPECIAL, byte_level, codec, read_text, sentencepiece, words, write_text

transformers = pytest.importorskip("transformers")

PROMPTS = (
    "the other 12  things,  it's 2012",
    " leads and trails ",
    "a\n\nb\r\n\tc\n",
    "Grüße é e\u0301 世界 🙂 \u00a0\u2028 ﬁ",
    "x <|im_end|> y<|im_start|>z</s><s> <new> <plain>q <left> r <img> <|eot|> e",
    "if (a < b && c > 'd') \"q\" \\n",
    "do n't , I 'm a cat . the cat 's ? !",
    "<|endoftext|> <unk><pad>",
)


def added(index: int, content: str, **flags: bool) -> dict[str, Any]:
    base = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word", "special"), False)
    return {str(index): {"content": content} | base | flags}


def post_processed(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 1), ("</s>", 2)])
    return tokenizer


def cut_and_padded(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(pad_id=3, pad_token="<pad>", length=64)
    return tokenizer


def without_specials(tokenizer: Tokenizer) -> Tokenizer:
    data = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps(data | {"added_tokens": data["added_tokens"][:2]}))


ALL_ADDED = {k: v for i, token in enumerate(SPECIAL) for k, v in added(i, token, special=True).items()}
WRITTEN = {"__type": "AddedToken", "content": "<new>", "lstrip": True, "rstrip": False, "normalized": False}
Case = tuple[Callable[[], Tokenizer], dict[str, Any] | None, dict[str, Any]]
CASES: dict[str, Case] = {
    "no config": (byte_level, None, {}),
    "no config, qwen3": (byte_level, None, {"architecture": "qwen3"}),
    "as it is": (byte_level, FAST | NAMES, {}),
    "as it is, qwen3": (byte_level, FAST | NAMES, {"architecture": "qwen3"}),
    "an unknown class": (byte_level, {"tokenizer_class": "OurTokenizer"}, {"architecture": "qwen3"}),
    "Qwen2": (byte_level, {"tokenizer_class": "Qwen2Tokenizer"} | NAMES, {}),
    "Qwen2, unnamed": (byte_level, {"tokenizer_class": "Qwen2TokenizerFast", "pad_token": None}, {}),
    "Qwen2, flags": (
        byte_level,
        {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|eot|>"}
        | {"added_tokens_decoder": ALL_ADDED | added(6, "<|eot|>", lstrip=True, rstrip=True)},
        {},
    ),
    "GPT2 forgets digits": (lambda: byte_level(digits=True), {"tokenizer_class": "GPT2Tokenizer"} | NAMES, {}),
    "GPT2, prefix": (byte_level, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}, {}),
    "GPT2, padding": (lambda: cut_and_padded(byte_level()), {"tokenizer_class": "GPT2Tokenizer"}, {}),
    "Llama of bytes": (byte_level, {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True} | NAMES, {}),
    "Llama": (sentencepiece, {"tokenizer_class": "LlamaTokenizer"}, {}),
    "Llama, legacy": (sentencepiece, {"tokenizer_class": "LlamaTokenizerFast", "legacy": True} | NAMES, {}),
    "Llama, no prefix": (sentencepiece, {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}, {}),
    "Llama's file as it is": (sentencepiece, FAST | NAMES, {}),
    "digits": (lambda: byte_level(digits=True), FAST | NAMES, {}),
    "cut and padded": (lambda: cut_and_padded(byte_level()), FAST, {}),
    "begin and end": (lambda: post_processed(byte_level()), FAST | NAMES | {"add_eos_token": False}, {}),
    "begin and end, Qwen2": (lambda: post_processed(byte_level()), {"tokenizer_class": "Qwen2Tokenizer"}, {}),
    "added in the config only": (
        lambda: without_specials(byte_level()),
        FAST
        | {"added_tokens_decoder": ALL_ADDED | added(400, "<new>", special=True) | added(271, "<left>", lstrip=True)},
        {},
    ),
    "flags of the config": (
        byte_level,
        FAST | NAMES | {"added_tokens_decoder": added(5, "<|im_end|>", lstrip=True, rstrip=True)},
        {},
    ),
    "single words": (byte_level, FAST | {"added_tokens_decoder": added(9, "the", single_word=True)}, {}),
    "normalized": (byte_level, FAST | {"added_tokens_decoder": added(300, "É", normalized=True)}, {}),
    "named and new": (byte_level, FAST | {"eos_token": "<new>", "image_token": "<img>", "bos_token": WRITTEN}, {}),
    "additional": (byte_level, FAST | {"additional_special_tokens": ["<new>", WRITTEN | {"content": "<img>"}]}, {}),
    "extra list": (byte_level, FAST | {"extra_special_tokens": ["<new>", "<|eot|>"]}, {}),
    "extra dict": (byte_level, FAST | {"extra_special_tokens": {"image_token": "<img>", "boi": "<new>"}}, {}),
    "both lists": (byte_level, FAST | {"extra_special_tokens": ["<new>"], "additional_special_tokens": ["<img>"]}, {}),
    "added_tokens.json": (byte_level, FAST | NAMES, {"added_tokens": {"<plain>": 301, "<new>": 300}}),
    "older names": (
        byte_level,
        FAST | {"eos_token": "</s>", "pad_token": "<pad>"},
        {"special_tokens_map": {"eos_token": "<|eot|>", "additional_special_tokens": ["<new>"], "bos_token": "<s>"}},
    ),
    "older names, list": (
        byte_level,
        FAST | {"additional_special_tokens": ["<img>"]},
        {"special_tokens_map": {"extra_special_tokens": ["<new>"], "additional_special_tokens": ["<left>"]}},
    ),
    "older names, an empty list": (
        byte_level,
        FAST | {"additional_special_tokens": []},
        {"special_tokens_map": {"additional_special_tokens": ["<img>"]}, "added_tokens": {"<new>": 271}},
    ),
    "older names, order of ids": (
        byte_level,
        FAST | {"image_token": "<new>", "extra_special_tokens": {"boi": "<plain>"}},
        {"special_tokens_map": {"audio_token": "<img>", "image_token": "<left>"}, "added_tokens": {"<img>": 275}},
    ),
    "a control token that the config calls none": (
        byte_level,
        FAST | {"added_tokens_decoder": added(6, "<|eot|>", rstrip=True)},
        {},
    ),
    "one token, two records": (
        byte_level,
        FAST | {"eos_token": "<new>", "additional_special_tokens": [WRITTEN, "<new>"], "added_tokens_decoder": {}},
        {},
    ),
    "older names, overruled": (
        byte_level,
        FAST | {"eos_token": "</s>", "added_tokens_decoder": {}},
        {"special_tokens_map": {"eos_token": "<|eot|>"}, "added_tokens": {"<new>": 300}},
    ),
    "nulls": (byte_level, FAST | {"bos_token": None, "eos_token": None, "added_tokens_decoder": ALL_ADDED}, {}),
    "specials are text": (byte_level, FAST | NAMES | {"split_special_tokens": True}, {}),
    "clean-up of words": (words, FAST | {"clean_up_tokenization_spaces": True}, {}),
    "words": (words, FAST | NAMES | {"clean_up_tokenization_spaces": False}, {}),
    "clean-up, left out for BPE": (byte_level, FAST | {"clean_up_tokenization_spaces": True}, {}),
    "clean-up, forced for BPE": (
        byte_level,
        FAST
        | {"clean_up_tokenization_spaces": True}
        | {"clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True},
        {},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def offline() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        transformers.logging.set_verbosity_error()
        yield


Both = tuple[TextCodec, Any]


def both(folder: Path, tokenizer: Tokenizer, config: dict[str, Any] | None, **options: Any) -> Both:
    write_text(folder, tokenizer, config, **options)
    return codec(folder, read_text(folder)), transformers.AutoTokenizer.from_pretrained(str(folder))


def chat_ids(theirs: Any, messages: list[dict[str, Any]], **options: Any) -> list[int]:
    out = theirs.apply_chat_template(messages, add_generation_prompt=True, **options)
    ids: list[int] = out["input_ids"]
    return ids


def streamed(ours: TextCodec, ids: list[int]) -> str:
    stream = ours.stream()
    return "".join(stream.push([token]) for token in ids) + stream.finish()


@pytest.fixture(scope="module", params=list(CASES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    build, config, options = CASES[request.param]
    return both(tmp_path_factory.mktemp("text"), build(), config, **options)


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_prompts_have_the_same_ids_and_text(pair: Both, prompt: str) -> None:
    ours, theirs = pair
    ids = theirs(prompt)["input_ids"]
    assert ours.prompt_ids(prompt, raw=True) == ids
    assert ours.prompt_ids(prompt) == chat_ids(theirs, [{"role": "user", "content": prompt}])
    assert ours.tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert streamed(ours, ids) == ours.tokenizer.decode(ids)


def test_named_tokens_are_the_same(pair: Both) -> None:
    ours, theirs = pair
    assert ours._tokens == theirs.special_tokens_map


PIECES = st.text(
    st.sampled_from("the12 sér'\n<|im_end|>.,?! \u00e9e\u0301") | st.characters(exclude_categories=("Cs",))
)
LOOKALIKES = st.lists(PIECES | st.sampled_from(["<|im_end|>", "<new>", "<s>", " ", "\n\n", "the"]), max_size=8)


@given(parts=LOOKALIKES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_has_the_same_ids_and_comes_back_the_same(pair: Both, parts: list[str]) -> None:
    ours, theirs = pair
    ids = theirs("x" + "".join(parts))["input_ids"]
    assert ours.prompt_ids("x" + "".join(parts), raw=True) == ids
    assert streamed(ours, ids) == ours.tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


@given(ids=st.lists(st.integers(0, 260), max_size=24))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_ids_come_back_the_same(pair: Both, ids: list[int]) -> None:
    ours, theirs = pair
    ids = [token for token in ids if token < len(theirs)]
    assert streamed(ours, ids) == ours.tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("conversation", chat_templates.CONVERSATIONS)
@pytest.mark.parametrize("template", chat_templates.TEMPLATES)
def test_conversations_are_rendered_and_refused_alike(tmp_path: Path, template: str, conversation: str) -> None:
    source, messages = chat_templates.TEMPLATES[template], chat_templates.CONVERSATIONS[conversation]
    write_text(tmp_path, byte_level(), FAST | NAMES, template=source)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    with pytest.warns(RuntimeWarning) if template in chat_templates.DEMANDING else chat_templates.nothing():
        ours = codec(tmp_path, read_text(tmp_path))
    for tools in (None, chat_templates.TOOLS):
        try:
            expected = chat_ids(theirs, messages, tools=tools)
        except Exception:  # a template may fail in any way
            with pytest.raises(RequestError, match=r"the chat template refuses this prompt: ."):
                ours.message_ids(messages, tools=tools)
        else:
            assert ours.message_ids(messages, tools=tools) == expected


def put(folder: Path, config_template: Any = None, **files: str) -> None:
    write_text(
        folder, config=FAST | ({} if config_template is None else {"chat_template": config_template}), template=None
    )
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".jinja").write_bytes(text.encode())


NAMED = [
    {"name": "tool_use", "template": "T"},
    {"name": "default", "template": "D"},
    {"name": "default", "template": "E"},
]
PLACES: dict[str, dict[str, Any]] = {
    "nowhere": {},
    "the config": {"config_template": "C{{ messages[0].content }}"},
    "the config, line ends": {"config_template": "C\r\n\r{{ '\r\n' }}x\n"},
    "a file": {"chat_template": "F"},
    "both": {"config_template": "C", "chat_template": "F"},
    "a file, line ends": {"chat_template": "{% if true %}\r\nA\r\n{% endif %}\r\nB\r\n"},
    "a file, byte-order mark": {"chat_template": "\ufeffA"},
    "named": {"config_template": NAMED},
    "by name": {"config_template": {"default": "D", "rag": "R"}},
    "named, no default": {"config_template": [{"name": "chat", "template": "C"}]},
    "named, none": {"config_template": []},
    "a folder": {"additional_chat_templates__tool_use": "T", "chat_template": "F"},
    "a folder with the default": {"additional_chat_templates__default": "D"},
    "a folder, no default": {"additional_chat_templates__tool_use": "T", "config_template": "C"},
}


@pytest.mark.parametrize("place", PLACES)
def test_templates_are_found_in_the_same_places(tmp_path: Path, place: str) -> None:
    put(tmp_path, **PLACES[place])
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    try:
        expected = chat_ids(theirs, [{"role": "user", "content": "hi"}])
    except ValueError as error:
        if "not set" in str(error):
            assert read_text(tmp_path).chat_template is None
        else:
            with pytest.raises(CheckpointError, match='no chat template is called "default", there are: '):
                read_text(tmp_path)
    else:
        assert codec(tmp_path, read_text(tmp_path)).prompt_ids("hi") == expected


def test_a_processors_template_is_not_the_tokenizers(tmp_path: Path) -> None:
    write_text(tmp_path, config=FAST, template=None, chat_template={"chat_template": "P"})
    assert transformers.AutoTokenizer.from_pretrained(str(tmp_path)).chat_template is None
    assert read_text(tmp_path).chat_template is None


def own_code(name: str) -> bool:
    """Whether transformers' class of this name changes ids by code of its own; False also for names it lacks."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    try:
        found = tokenizer_class_from_name(name) or tokenizer_class_from_name(name + "Fast")
    except ImportError:
        return True
    if found is None or found.__name__ in ("TokenizersBackend", "PythonBackend"):
        return False
    mine = {"__init__", "_decode", "_encode_plus"} & set(vars(found))
    return bool(mine) or not isinstance(found, type) or not issubclass(found, TokenizersBackend)


def test_every_class_with_code_of_its_own_is_known() -> None:
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    names = {name for name in TOKENIZER_MAPPING_NAMES.values() if name}
    names |= {name for name in dir(transformers) if name.endswith("Tokenizer")}
    names = {name.removesuffix("Fast") for name in names} - {"AutoTokenizer", "TokenizersBackend"}
    kinds = {name.removesuffix("Tokenizer").removesuffix("Backend") for name in names if own_code(name)}
    assert kinds <= OTHERS | set(PIPELINES)
    assert not OTHERS & set(PIPELINES)


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
