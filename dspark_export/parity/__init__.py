"""The torch reference of every graph: slow, clear, float32. Needs the extra `parity`."""

from dspark_export.parity.chain import ChainModule
from dspark_export.parity.drafter import DrafterModule
from dspark_export.parity.generate import greedy, speculative_greedy
from dspark_export.parity.heads import DraftHeads, draft_greedy, draft_sampled
from dspark_export.parity.target import KeyValueCache, TargetModule

__all__ = [
    "ChainModule",
    "DraftHeads",
    "DrafterModule",
    "KeyValueCache",
    "TargetModule",
    "draft_greedy",
    "draft_sampled",
    "greedy",
    "speculative_greedy",
]
