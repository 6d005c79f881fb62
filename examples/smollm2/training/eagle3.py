"""Eagle3: three taps of the target, one Llama layer whose attention reads embedding and state, a reduced vocabulary.

u = fc [tap; tap; tap] is the state of the target's pairs. Attention reads [input_layernorm(embedding of token i+1) ;
hidden_norm(u)], the residual stream is u itself; the next step's state is the stream before `norm`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from training.chain import ChainDrafter
from training.drafter import Files, Settings
from training.layers import RMSNorm, linear
from training.speculators import vocabulary_tensors
from training.target import layer_dim, rope_theta, tap_layers

STORED, USED = 5, (0, 2, 4)
"""Taps of the data, and which of them are read: low, middle, high."""
OF_MIDLAYER = ("self_attn.", "mlp.", "input_layernorm.", "hidden_norm.", "post_attention_layernorm.")


class Eagle3Drafter(ChainDrafter):
    """Attention over [embedding ; state]."""

    kind = "eagle3"

    def __init__(self, config: LlamaConfig, vocabulary: Tensor, settings: Settings) -> None:
        super().__init__(config, vocabulary, settings, 2 * config.hidden_size)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.hidden_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.fc = linear(len(USED) * config.hidden_size, config.hidden_size)

    @torch.no_grad()
    def warm_start(self, model: LlamaForCausalLM) -> None:
        half, last = self.config.hidden_size, model.model.layers[-1]
        self.fc.weight[:, -half:] += torch.eye(half)
        self.norm.weight.copy_(model.model.norm.weight)
        self.mlp.load_state_dict({name: weight.float() for name, weight in last.mlp.state_dict().items()})
        self.post_attention_layernorm.weight.copy_(last.post_attention_layernorm.weight)
        self.hidden_norm.weight.copy_(last.input_layernorm.weight)
        self.self_attn.o_proj.weight.copy_(last.self_attn.o_proj.weight)
        for name in ("q_proj", "k_proj", "v_proj"):
            getattr(self.self_attn, name).weight[:, half:] = getattr(last.self_attn, name).weight.float()

    def states_of(self, taps: Tensor, last: Tensor) -> Tensor:
        parts = taps.unflatten(-1, (STORED, self.config.hidden_size))[..., USED, :]
        return self.fc(parts.flatten(-2))

    def enter(self, embedding: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([self.input_layernorm(embedding), self.hidden_norm(state)], -1), state

    def leave(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(stream), stream

    def stored_name(self, name: str) -> str:
        return f"midlayer.{name}" if name.startswith(OF_MIDLAYER) else name

    def files(self) -> Files:
        """The plain layout (SpecForge, SGLang, vLLM): `midlayer`, and the head's rows of the draft vocabulary."""
        lent = vocabulary_tensors(self.vocabulary, self.config.vocab_size) | {"lm_head.weight": self.head}
        return self._keys(), self.stored_weights() | lent

    def _keys(self) -> dict[str, Any]:
        config = self.config
        taps = tap_layers(config.num_hidden_layers, STORED)
        copied = (
            *("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size"),
            *("rms_norm_eps", "hidden_act", "max_position_embeddings", "attention_bias", "attention_dropout"),
            *("mlp_bias", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range"),
        )
        return {
            "architectures": ["LlamaForCausalLMEagle3"],
            "model_type": "llama",
            **{key: getattr(config, key) for key in copied},
            "head_dim": layer_dim(config),
            "num_hidden_layers": 1,
            "draft_vocab_size": len(self.vocabulary),
            "rope_theta": rope_theta(config),
            "rope_scaling": None,
            "tie_word_embeddings": False,
            "norm_before_residual": False,
            # What enters these layers is read: the outputs of the layers before them.
            "eagle_config": {
                "eagle_aux_hidden_state_layer_ids": [taps[i] + 1 for i in USED],
                "use_aux_hidden_state": True,
            },
            "dtype": "bfloat16",
        }
