"""Block drafters without heads of their own: DFlash, the first position of whose blocks predicts."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from training.backbone import Backbone, block_mask
from training.data import Batch
from training.drafter import Drafter, Files, Settings
from training.objective import Head, Teacher, choices, lesson
from training.positions import choose_anchors, flat, teach_answers
from training.speculators import speculators_config, vocabulary_tensors
from training.target import tap_layers

STORED = 5


class DFlashDrafter(Drafter):
    """A backbone; every position of a block is drafted from its own features."""

    kind = "dflash"

    def __init__(self, config: LlamaConfig, vocabulary: Tensor, settings: Settings) -> None:
        super().__init__(config, vocabulary, settings)
        self.backbone = Backbone(config, settings.layers, STORED)

    @torch.no_grad()
    def warm_start(self, model: LlamaForCausalLM) -> None:
        half, layers = self.config.hidden_size, self.backbone.layers
        self.backbone.fc.weight.mul_(0.5)[:, -half:] += torch.eye(half)
        for own, theirs in zip(layers, model.model.layers[-len(layers) :], strict=True):
            own.load_state_dict({name: weight.float() for name, weight in theirs.state_dict().items()}, strict=False)
        self.backbone.norm.weight.copy_(model.model.norm.weight)

    def blocks(self, ids: Tensor, taps: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, A*block, H] of blocks at `anchors` [B, A], and their positions [B, A*block]."""
        block = self.settings.depth
        at = (anchors[..., None] + torch.arange(block, device=ids.device)).flatten(1)
        tokens = torch.full((*anchors.shape, block), self.settings.mask_token, device=ids.device)
        tokens[..., 0] = ids.gather(1, anchors)
        mask = block_mask(anchors, block, taps.shape[1])
        with torch.autocast(at.device.type, torch.bfloat16, enabled=self.head.dtype == torch.bfloat16):
            return self.backbone(self.embedding[tokens.flatten(1)], taps, at, mask), at

    def learn(self, batch: Batch, alpha: float) -> None:
        anchors = choose_anchors(batch, self.settings.anchors, 1)
        hidden, at = self.blocks(batch.ids, batch.taps, anchors)
        weights = torch.exp(-torch.arange(self.settings.depth, device=at.device) / 4).repeat(anchors.shape[1])
        kept = (at < batch.lengths[:, None] - 1) & (torch.rand(at.shape, device=at.device) < weights)
        teacher = teach_answers(batch, self.head).at(flat(at, batch)[kept])
        previous = batch.ids.gather(1, at.clamp(max=batch.ids.shape[1] - 1))[kept]
        self.loss(hidden[kept].float(), previous, teacher, alpha).backward()

    def loss(self, hidden: Tensor, previous: Tensor, teacher: Teacher, alpha: float) -> Tensor:
        """What to go down from, at features [N, H] after tokens `previous` [N]."""
        found = lesson(hidden, Head(self.head), teacher, alpha)
        return (hidden * found.gradient).sum() / len(hidden)

    def choose_after(self, hidden: Tensor, previous: Tensor) -> Tensor:
        """[N] int64: ids that are drafted greedily at features [N, H] after tokens `previous` [N]."""
        return self.choose(hidden)

    @torch.no_grad()
    def score(self, batch: Batch) -> Tensor:
        anchors = choose_anchors(batch, self.settings.anchors, self.settings.depth)
        hidden, at = self.blocks(batch.ids, batch.taps, anchors)
        best = choices(batch.last[batch.answered], self.full_head)[flat(at, batch)]
        drafted = self.choose_after(hidden.flatten(0, 1), batch.ids.gather(1, at).flatten())
        return (drafted == best.flatten()).float().view(-1, self.settings.depth)

    @torch.inference_mode()
    def propose(self, ids: Tensor, taps: Tensor, last: Tensor) -> list[int]:
        hidden, _ = self.blocks(ids[None], taps[None], torch.tensor([[len(ids) - 1]]))
        drafted = [int(ids[-1])]
        for features in hidden[0]:
            drafted.append(int(self.choose_after(features[None], torch.tensor(drafted[-1:]))))
        return drafted[1:]

    def stored_name(self, name: str) -> str:
        return name.removeprefix("backbone.")

    def files(self) -> Files:
        """The speculators library's layout, as a DSpark drafter of rank 0: so its first position may predict."""
        taps = tap_layers(self.config.num_hidden_layers, STORED)
        config = speculators_config(self.config, self.settings, taps, len(self.vocabulary), self.head_keys())
        return config, self.stored_weights() | vocabulary_tensors(self.vocabulary, self.config.vocab_size)

    def head_keys(self) -> dict[str, object]:
        """Keys of config.json that speak of heads."""
        return {"markov_rank": 0, "enable_confidence_head": False, "confidence_head_with_markov": False}
