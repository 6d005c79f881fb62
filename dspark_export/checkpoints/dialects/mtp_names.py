"""Canonical names of MTP heads' tensors: what is in front of a stage's layer, behind it, and in it."""

from __future__ import annotations

import re
from collections.abc import Mapping

ONES: Mapping[str, str] = {
    "token_layernorm": "embedding_norm",
    "hidden_layernorm": "hidden_norm",
    "input_proj": "fc",
    "final_layernorm": "norm",
}
"""Of a stage, as MiMo and the speculators library call them: `mtp_layers.0.input_proj.weight`."""
QWEN: Mapping[str, str] = {
    "pre_fc_norm_embedding": "embedding_norm",
    "pre_fc_norm_hidden": "hidden_norm",
    "fc": "fc",
    "norm": "norm",
}
"""Of the only stage, as Qwen3-Next calls them: `mtp.fc.weight`, and its layer's begin `mtp.layers.0.`."""


def stage_name(name: str) -> str:
    """The canonical name of `mtp_layers.S.…`; another stays as it is."""
    match = re.fullmatch(r"mtp_layers\.(\d+)\.(\w+)(\..*)", name)
    if match is None:
        return name
    stage, part, rest = match.groups()
    return f"stages.{stage}.{ONES[part]}{rest}" if part in ONES else f"layers.{stage}.{part}{rest}"


def qwen_name(name: str) -> str:
    """The canonical name of `mtp.…`; another stays as it is."""
    if not name.startswith("mtp."):
        return name
    inner = name.removeprefix("mtp.")
    part, _, rest = inner.partition(".")
    return f"stages.0.{QWEN[part]}.{rest}" if part in QWEN else inner
