"""transformers' classes of tokenizers: those that change ids by their own code are followed or refused."""

from __future__ import annotations

from dspark_export.checkpoints.text.pipelines import PIPELINES
from dspark_export.checkpoints.text.tokenizer_class import OTHERS
from tests.support.text_parity import offline, transformers

__all__ = ["offline"]  # a fixture


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
