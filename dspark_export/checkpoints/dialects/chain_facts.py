"""What readers of drafters that draft one token after the other have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.spec import ChainSpec, ConfidenceSpec, MarkovSpec
from dspark_export.checkpoints.tensors import Entry

EAGLE3_LENGTH, MTP_LENGTH = 5, 3
"""How many tokens are drafted where a checkpoint does not say."""
UNUSED_MASK = 0


def chain_facts(chain: ChainSpec, length: int) -> dict[str, Any]:
    """Fields of `DrafterSpec` that say nothing of a chain, or the same of all, and its `length`."""
    return {
        "block_size": length,
        "mask_token_id": UNUSED_MASK,
        "markov": MarkovSpec("none", 0),
        "confidence": ConfidenceSpec(enabled=False, with_markov=False),
        "method": chain.kind,
        "chain": chain,
    }


def renamed_entries(path: Path, entries: Mapping[str, Entry], canonical: Callable[[str], str]) -> dict[str, Entry]:
    """`entries` by other names. Raises `CheckpointError` where two get the same."""
    renamed: dict[str, Entry] = {}
    for name, entry in entries.items():
        known = canonical(name)
        if known in renamed:
            raise CheckpointError(
                f"{path}: holds both tensor {renamed[known].source_name} and {entry.source_name}",
                hint="remove the one that is out of date",
            )
        renamed[known] = entry
    return renamed
