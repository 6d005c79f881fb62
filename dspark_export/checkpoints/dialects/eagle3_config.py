"""config.json of Eagle3 drafters in the plain layout: a Llama config of one layer with keys of the drafter."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, model_validator

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.config_file import UniformConfig
from dspark_export.checkpoints.spec import ChainSpec

IDS = "eagle_aux_hidden_state_layer_ids"


class Keys(BaseModel):
    """What `eagle_config` may say, and the config itself: nowhere else is it looked for."""

    model_config = ConfigDict(extra="ignore")

    eagle_aux_hidden_state_layer_ids: list[NonNegativeInt] | None = None
    use_aux_hidden_state: Literal[True] | None = None
    norm_before_residual: bool | None = None
    norm_before_fc: bool | None = None
    fc_norm: bool | None = None
    norm_output: Literal[False] | None = None
    """Two tools mean different things by it: none is guessed."""
    parallel_drafting: Literal[False] | None = None
    mask_token_id: None = None
    """P-EAGLE's, which drafts otherwise."""


class Eagle3Config(UniformConfig, Keys):
    """The keys at either place. What is left out means what SGLang, vLLM and the trainer SpecForge take it for."""

    model_config = ConfigDict(extra="ignore")

    num_hidden_layers: Literal[1]
    draft_vocab_size: PositiveInt | None = None
    target_hidden_size: PositiveInt | None = None
    eagle_config: Keys | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        nested = self.eagle_config or Keys()
        for key in Keys.model_fields:
            outer, inner = getattr(self, key), getattr(nested, key)
            if outer is not None and inner is not None and outer != inner:
                raise ValueError(f"{key} is both {outer} and, in eagle_config, {inner}")
            if outer is None:
                setattr(self, key, inner)
        if (self.draft_vocab_size or 1) > self.vocab_size:
            raise ValueError(
                f"draft_vocab_size {self.draft_vocab_size} is more than the vocabulary of {self.vocab_size}"
            )
        if self.target_hidden_size not in (None, self.hidden_size):
            raise ValueError(f"target_hidden_size is {self.target_hidden_size}, hidden_size {self.hidden_size}")
        if self.norm_before_fc and self.fc_norm:
            raise ValueError("norm_before_fc and fc_norm: taps are normed as one or each")
        return self

    @property
    def chain(self) -> ChainSpec:
        """How a step goes."""
        tap_norm: Literal["none", "whole", "each"] = "each" if self.fc_norm else "none"
        return ChainSpec(
            kind="eagle3",
            residual_normed=bool(self.norm_before_residual),
            tap_norm="whole" if self.norm_before_fc else tap_norm,
        )

    def taps(self, file: Path, depth: int, count: int) -> tuple[int, ...]:
        """The target layers whose outputs are read, of `depth`; fc takes `count` of them.

        Ids say what enters a layer (vLLM, SGLang), id - 1 being the layer whose output that is, except in a list whose
        first is 1: SGLang and SpecForge mean outputs by it, and nobody else writes [1, N//2-1, N-4]. Without a list
        they are those of the paper's code. Raises `CheckpointError` where they do not fit fc or the target.
        """
        entered, said = self._entered(file, depth), self.eagle_aux_hidden_state_layer_ids
        if len(entered) != count:
            raise CheckpointError(
                f"{file}: {IDS} names {len(entered)} layers, and fc.weight takes {count}",
                hint=f"set {IDS} to the layers that the drafter was trained on",
            )
        taps = tuple(layer - 1 for layer in entered)
        if list(taps) != sorted(set(taps)) or taps[-1] >= depth - 1:
            raise CheckpointError(
                f"{file}: {IDS} is {said}, which is not a rising list of layers below the last of {depth}",
                hint="this drafter was trained for another target",
            )
        return taps

    def _entered(self, file: Path, depth: int) -> list[int]:
        ids, usual = self.eagle_aux_hidden_state_layer_ids, [2, depth // 2, depth - 3]
        if ids is None:
            warnings.warn(f"{file}: no {IDS}: what enters layers {usual} is read, as by default", stacklevel=5)
            return usual
        if ids[:1] == [1]:
            outputs = ids == [layer - 1 for layer in usual]
            meant = "comes out of" if outputs else "enters"
            warnings.warn(f"{file}: {IDS} is {ids}: read as what {meant} these layers", stacklevel=5)
            return [layer + 1 for layer in ids] if outputs else ids
        return ids
