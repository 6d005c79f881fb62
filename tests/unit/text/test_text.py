"""Chat templates in their sandbox, prompts to ids, and streaming that never shows half a character."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from dspark_engines.bundle import TargetInfo
from dspark_engines.errors import BundleError, RequestError
from dspark_engines.text import TEMPLATE_FILE, TOKENIZER_FILE, TOKENS_FILE, BundleTokenizer, TextCodec, TextStream
from dspark_engines.text.chat import ChatTemplate
from dspark_engines.text.spaces import SpaceCleaner, clean_up_spaces
from tests.support import tiny
from tests.support.tiny_gguf import gguf_bytes

REPLACEMENT = "\ufffd"
BOS, EOS = 256, 257


def every_byte_tokenizer() -> Tokenizer:
    """One token a byte, two merges that cut characters in odd places, two control tokens."""
    spelled = gguf_bytes()
    merges = [(spelled[0xA9], spelled[ord("a")]), (spelled[0xC3], spelled[0xA9])]
    tokens = [*spelled, "<s>", "</s>", *("".join(merge) for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BundleTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / TOKENIZER_FILE).write_text(every_byte_tokenizer().to_str(), "utf-8")
    return BundleTokenizer(folder)


def chunks_of(ids: list[Any], cuts: list[int]) -> list[list[Any]]:
    edges = [0, *sorted({cut % (len(ids) + 1) for cut in cuts}), len(ids)]
    return [ids[a:b] for a, b in itertools.pairwise(edges)]


def streamed(tokenizer: BundleTokenizer, chunks: list[list[int]]) -> str:
    stream, text = TextStream(tokenizer), ""
    for chunk in chunks:
        piece = stream.push(chunk)
        assert not piece.endswith(REPLACEMENT)
        text += piece
    return text + stream.finish()


CUTS = st.lists(st.integers(0, 10**6), max_size=12)
TEXT = st.text(st.sampled_from("aé©世🙂👩‍👧\u0301\n ") | st.characters(exclude_categories=("Cs",)), max_size=30)


@given(text=TEXT, cuts=CUTS)
@settings(max_examples=300, deadline=None)
def test_streamed_text_is_the_text(tokenizer: BundleTokenizer, text: str, cuts: list[int]) -> None:
    ids = tokenizer.encode(text)
    assert streamed(tokenizer, chunks_of(ids, cuts)) == tokenizer.decode(ids) == text
    assert streamed(tokenizer, [[token] for token in ids]) == text


@given(ids=st.lists(st.integers(0, 259) | st.integers(128, 255), max_size=30), cuts=CUTS)
@settings(max_examples=300, deadline=None)
def test_any_ids_stream_to_their_decoding(tokenizer: BundleTokenizer, ids: list[int], cuts: list[int]) -> None:
    """Broken characters, control tokens between the bytes of one: still what decoding all at once gives."""
    assert streamed(tokenizer, chunks_of(ids, cuts)) == tokenizer.decode(ids)


def test_text_is_shown_as_soon_as_it_is_certain(tokenizer: BundleTokenizer) -> None:
    stream = TextStream(tokenizer)
    pushed = [stream.push([byte]) for byte in "a🙂b".encode()]
    assert pushed == ["a", "", "", "", "🙂", "b"]
    assert [stream.push([0xF0]), stream.push([]), stream.finish(), stream.finish()] == ["", "", REPLACEMENT, ""]


def test_a_byte_fallback_decoder_keeps_its_spaces(tmp_path: Path) -> None:
    """Sentencepiece style: the decoder strips the first space of whatever it is given."""
    tokens = ["<unk>", "▁the", "▁cat", "s", *(f"<0x{byte:02X}>" for byte in "é".encode()), "</s>"]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["</s>"])
    (tmp_path / TOKENIZER_FILE).write_text(tokenizer.to_str(), "utf-8")
    ids = [1, 2, 3, 4, 5, 1, 2]
    assert streamed(BundleTokenizer(tmp_path), [[token] for token in ids]) == "the catsé the cat"


def test_a_control_token_does_not_swallow_the_space_behind_it(tmp_path: Path) -> None:
    """Decoders that strip the first space must not see a window that begins with a token without text."""
    tokens = ["<unk>", "▁the", "▁cat", "</s>", *(f"<0x{byte:02X}>" for byte in b"\n\x80")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["</s>"])
    (tmp_path / TOKENIZER_FILE).write_text(tokenizer.to_str(), "utf-8")
    ours = BundleTokenizer(tmp_path)
    assert streamed(ours, [[2], [3], [1]]) == ours.decode([2, 3, 1]) == "cat the"
    # a newline is shown when the run of bytes that it begins is known to be UTF-8
    assert streamed(ours, [[2], [4], [1]]) == ours.decode([2, 4, 1]) == "cat\n the"
    assert streamed(ours, [[2], [4], [3], [5]]) == ours.decode([2, 4, 3, 5]) == "cat" + 2 * REPLACEMENT


@given(text=st.text(" .?!,'ntmsvrexy", max_size=20), cuts=CUTS)
@settings(max_examples=300, deadline=None)
def test_cleaned_text_is_the_same_whole_and_in_pieces(text: str, cuts: list[int]) -> None:
    cleaner, shown = SpaceCleaner(), ""
    for piece in chunks_of([*text], cuts):
        shown += cleaner.push("".join(piece))
    assert shown + cleaner.finish() == clean_up_spaces(text)


def codec(
    folder: Path, tokenizer: Tokenizer, template: str | None, *, add_bos: bool = False, add_eos: bool = False
) -> TextCodec:
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer" / TOKENIZER_FILE).write_text(tokenizer.to_str(), "utf-8")
    if template is not None:
        (folder / "tokenizer" / TEMPLATE_FILE).write_text(template, "utf-8")
    target = TargetInfo.model_construct(
        vocab_size=260, bos_token_id=BOS, eos_token_ids=[EOS], add_bos=add_bos, add_eos=add_eos
    )
    bundle: Any = SimpleNamespace(file=lambda name: folder / name, manifest=SimpleNamespace(target=target))
    return TextCodec(bundle)


def test_template_writes_the_turn(tmp_path: Path) -> None:
    text = codec(tmp_path, every_byte_tokenizer(), "{{ bos_token }}" + tiny.TEMPLATE + "{{ eos_token }}")
    ids = text.prompt_ids("Hé")
    assert ids == [BOS, *b"user: H", 258 + 1, *b"\nassistant:", EOS]
    assert text.prompt_ids("Hé", raw=True) == [*b"H", 258 + 1]


def test_template_knows_what_transformers_gives_it() -> None:
    template = ChatTemplate("{% if add_generation_prompt %}\n  {{ messages[0].content | trim }}\n{% endif %}"
                            "{% for m in messages %}{{ loop.index }}{% endfor %} {{ strftime_now('%Y') }}"
                            "{{ [1, 'a'] | tojson }}")  # fmt: skip
    assert re.fullmatch(r'  hi\n1 20\d\d\[1, "a"\]', template.render_turn(" hi "))


@pytest.mark.parametrize("own", [True, False], ids=["tokenizer adds it", "bundle adds it"])
def test_begin_token_comes_once(tmp_path: Path, own: bool) -> None:
    """A template writes its control tokens itself; raw text gets the one that the model wants."""
    tokenizer = every_byte_tokenizer()
    if own:
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", BOS)])
    text = codec(tmp_path, tokenizer, "{{ bos_token }}{{ messages[0].content }}", add_bos=not own)
    assert text.prompt_ids("ab") == [BOS, *b"ab"]
    assert text.prompt_ids("ab", raw=True) == [BOS, *b"ab"]
    assert text.prompt_ids("<s>ab", raw=True)[-3:] == [BOS, *b"ab"]


def test_llama_cpp_begins_a_conversation_once(tmp_path: Path) -> None:
    """A bundle from GGUF that wants a begin token: in front of every prompt, whether the template writes it or not."""
    silent = codec(tmp_path / "silent", every_byte_tokenizer(), "{{ messages[0].content }}", add_bos=True)
    assert silent.prompt_ids("ab") == [BOS, *b"ab"]
    assert silent.prompt_ids("<s>ab", raw=True) == [BOS, BOS, *b"ab"]
    closed = codec(tmp_path / "closed", every_byte_tokenizer(), "{{ messages[0].content }}</s>", add_eos=True)
    assert closed.prompt_ids("ab") == [*b"ab", EOS]
    assert closed.prompt_ids("ab", raw=True) == [*b"ab", EOS]


def test_bundles_with_named_tokens_give_templates_only_these(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / TOKENS_FILE).write_text('{"eos_token": "<s>"}')
    text = codec(tmp_path, every_byte_tokenizer(), "{{ bos_token is defined }}{{ eos_token }}")
    assert text.prompt_ids("x") == [*b"False", BOS]


def test_damaged_names(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / TOKENS_FILE).write_text('{"eos_token": 5}')
    with pytest.raises(BundleError, match=r"special_tokens_map\.json: not a list of tokens by name"):
        codec(tmp_path, every_byte_tokenizer(), "x").prompt_ids("x")


def test_an_empty_conversation_is_refused() -> None:
    with pytest.raises(RequestError, match="the conversation is empty"):
        ChatTemplate("x").render([])


@pytest.mark.parametrize(
    ("template", "fragment"),
    [
        ("{{ raise_exception('only tools') }}", "only tools"),
        ("{{ messages.undefined.thing }}", "undefined"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.__class__.__base__.__subclasses__() }}", "unsafe"),
        ("{{ namespace(_a=1) }}", "underscore"),
        ("{% set ns = namespace() %}{% set ns._a = 1 %}", "underscore"),
        ("{{ messages.append(1) }}", "append"),
        ("{{ raise_exception.__globals__.keys() }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "loader"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ 1 + 'a' }}", "unsupported operand"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"),
    ],
)  # fmt: skip
def test_template_that_fails_is_a_users_error(template: str, fragment: str) -> None:
    with pytest.raises(RequestError) as caught:
        ChatTemplate(template).render_turn("hello")
    assert fragment in str(caught.value)
    assert "--raw" in caught.value.hint


def test_template_that_is_no_jinja(tmp_path: Path) -> None:
    text = codec(tmp_path, every_byte_tokenizer(), "{% for m in messages %}")
    with pytest.raises(BundleError, match=r"chat template: .*endfor") as caught:
        text.prompt_ids("hello")
    assert "--raw" in caught.value.hint
    assert text.prompt_ids("hello", raw=True) == [*b"hello"]


def test_prompts_that_are_refused(tmp_path: Path) -> None:
    text = codec(tmp_path, every_byte_tokenizer(), None)
    for prompt in ("", " \n\t", "\u00a0"):
        with pytest.raises(RequestError, match="the prompt is empty"):
            text.prompt_ids(prompt, raw=True)
    with pytest.raises(RequestError, match="no chat template"):
        text.prompt_ids("hello")
    assert text.prompt_ids("hello", raw=True) == [*b"hello"]


def test_damaged_tokenizer(tmp_path: Path) -> None:
    (tmp_path / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(BundleError, match=re.escape(f"{tmp_path / TOKENIZER_FILE}: not a tokenizer")):
        BundleTokenizer(tmp_path)
