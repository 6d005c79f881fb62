"""Text in and out: tokenizer, chat template, streaming."""

from dspark_engines.text.chat import ChatTemplate
from dspark_engines.text.codec import TextCodec
from dspark_engines.text.stream import TextStream
from dspark_engines.text.tokenizer import TEMPLATE_FILE, TOKENIZER_FILE, TOKENS_FILE, BundleTokenizer

__all__ = [
    "TEMPLATE_FILE",
    "TOKENIZER_FILE",
    "TOKENS_FILE",
    "BundleTokenizer",
    "ChatTemplate",
    "TextCodec",
    "TextStream",
]
