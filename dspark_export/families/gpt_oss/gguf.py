"""gpt-oss in GGUF, with what llama.cpp's loader and graph take for granted (src/models, openai-moe).

Gate and up are two stacks, [E, out, in] like the rest; the library turns their MXFP4 blocks back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dspark_export.checkpoints import LayerSpec
from dspark_export.checkpoints.expert_config import gguf_expert_spec
from dspark_export.checkpoints.seams.gguf_layout import EXPERTS, LAYER, GgufLayout
from dspark_export.families.llama import TOP

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile

NAME = "gpt-oss"
ATTENTION = {given: name for given, name in LAYER.items() if not given.startswith("ffn_")}
NORM = {"post_attention_norm": "post_attention_layernorm"}
GPT_OSS = GgufLayout(
    architecture=NAME,
    top=TOP,
    layer=ATTENTION | NORM | EXPERTS,
    whole={"attn_sinks.weight": "self_attn.sinks"},
    permuted=False,
)
PERIOD = 2
"""One layer in so many sees everything where the file does not say: the odd ones."""
ALPHA, LIMIT = 1.702, 7.0
"""Of the clamped gates; no key says them."""


def gpt_oss_layers(file: GgufFile, layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
    """Every second layer sees a window. Shares are the softmax over the scores of the experts that were taken."""
    experts = gguf_expert_spec(file, NAME, renormalised=True, biased=True, alpha=ALPHA, limit=LIMIT, up_offset=1.0)
    width = file.count(f"{NAME}.expert_feed_forward_length")
    window = file.count(f"{NAME}.attention.sliding_window")
    period = file.count(f"{NAME}.attention.sliding_window_pattern", PERIOD)
    theta = file.positive(f"{NAME}.rope.freq_base_swa", layers[0].rope.theta)
    local = replace(layers[0].rope, theta=theta)
    full = tuple(replace(layer, intermediate_size=width, experts=experts, sinks=True) for layer in layers)
    return tuple(
        replace(layer, window=window, rope=local) if (i + 1) % period else layer for i, layer in enumerate(full)
    )
