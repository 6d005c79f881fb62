"""Greedy drafts of either kind of module, block after block of one request."""

from __future__ import annotations

import torch
from torch import Tensor

from dspark_export.parity.chain import ChainModule
from dspark_export.parity.drafter import DrafterModule
from dspark_export.parity.heads import Draft, draft_greedy


class GreedyDrafts:
    """Takes in what was accepted and drafts behind it. Modules without a cache see all of it every time."""

    def __init__(self, module: DrafterModule | ChainModule) -> None:
        self.module, self.features = module, torch.empty(0, module.spec.feature_size)
        self._cache = module.new_cache() if isinstance(module, ChainModule) else None

    @property
    def reads_text(self) -> bool:
        """Whether the module reads the tokens behind the features."""
        return self._cache is not None

    def block(self, features: Tensor, next_ids: Tensor) -> Draft:
        """Behind features [m, L*H] more, and the token behind each, [m]: the last is the anchor. gamma drafts."""
        module, anchor = self.module, int(next_ids[-1])
        if isinstance(module, ChainModule):
            assert self._cache is not None, "chains have one"
            drafted = module.draft(self._cache, features, next_ids)
            return drafted.ids, drafted.confidence, drafted.logits
        self.features = torch.cat([self.features, features])
        base, hidden = module(self.features, anchor)
        return draft_greedy(module, base, hidden, anchor)
