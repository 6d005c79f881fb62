"""Which of transformers' classes reads a directory's tokenizer (`AutoTokenizer.from_pretrained`, version 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.text.config_files import CONFIG, TokenizerConfig
from dspark_export.checkpoints.text.pipelines import PIPELINES, Pipeline

# Classes with Python code of their own that changes ids, where we have no pipeline for them; without "Fast".
OTHERS = frozenset(
    """
    Albert Bart Barthez Bartpho Basic BertGeneration BertJapanese Bert Bertweet BigBird BioGpt BlenderbotSmall
    Blenderbot ByT5 CLIP CTRL Camembert Canine Character Clvp CodeGen CodeLlama Cohere CpmAnt Cpm DPRContextEncoder
    DPRQuestionEncoder DPRReader Deberta DebertaV2 Dia DistilBert Esm Esmc FSMT FastSpeech2Conformer Flaubert Funnel
    GPTNeoXJapanese GPTNeoX GPTSw3 Gemma Herbert LED Lasr LayoutLMv2 LayoutLMv3 LayoutXLM Luke Lxmert M2M100 MBart50
    MBart MLuke MPNet Marian MarkupLM Mecab Mgpstr MistralCommon MobileBert Mvp MyT5 Nllb Nougat OpenAIGPT PLBart
    Parakeet Pegasus Perceiver Phobert Pop2Piano ProphetNet Qwen3_5 Rag Reformer RemBert RoCBert RoFormer Roberta
    SeamlessM4T Siglip2 Siglip Speech2Text SpeechT5 Splinter SqueezeBert T5 Tapas Tipsv2 Udop VideoPrism Vits
    Wav2Vec2CTC Wav2Vec2PhonemeCTC Whisper Wordpiece XGLM XLMRoberta XLM XLNet
    """.split()  # noqa: SIM905  one name a line would fill the page
)
AS_IT_IS = (
    "if tokenizer.json alone gives the right ids, set tokenizer_class to PreTrainedTokenizerFast and remove auto_map"
)


def find_pipeline(
    directory: Path, config: TokenizerConfig, model_config: dict[str, Any], tokenizer_json: str
) -> Pipeline | None:
    """The pipeline that the class builds around tokenizer.json's vocabulary; None when the file is used as it is.

    A name that transformers does not know counts as none. Raises `CheckpointError` for a class that we cannot follow.
    """
    path = directory / CONFIG
    if _own_code(config):
        raise CheckpointError(f"{path}: auto_map: the tokenizer has Python code of its own", hint=AS_IT_IS)
    if config.fast_tokenizer_files not in ([], ["tokenizer.json"]):
        raise CheckpointError(
            f"{path}: fast_tokenizer_files names several versions of the tokenizer",
            hint="keep the newest as tokenizer.json, and remove the key",
        )
    name = _class_name(config, model_config)
    kind = name.removesuffix("Tokenizer").removesuffix("Backend")
    if kind in OTHERS:
        raise CheckpointError(f"{path}: tokenizer_class {name} is not supported", hint=AS_IT_IS)
    if kind == "Llama" and '"ByteLevel"' in tokenizer_json:
        return None  # Llama 3's, declared as Llama's: transformers looks for this very word
    return PIPELINES.get(kind)


def _class_name(config: TokenizerConfig, model_config: dict[str, Any]) -> str:
    declared = config.tokenizer_class or model_config.get("tokenizer_class")
    if isinstance(declared, str) and declared:
        return declared.removesuffix("Fast")
    return "Qwen2Tokenizer" if model_config.get("model_type") in ("qwen2", "qwen3") else ""


def _own_code(config: TokenizerConfig) -> bool:
    auto_map = config.auto_map
    return bool(auto_map.get("AutoTokenizer") if isinstance(auto_map, dict) else auto_map)
