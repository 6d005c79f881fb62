"""Eagle3 and MTP-1 heads of the example's training: the unrolled steps are those of one chain after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, apply_rotary_pos_emb

from tests.support.training_data import HIDDEN, LAYERS, VOCABULARY, answers, tiny_llama
from training.chain import ChainDrafter
from training.data import pad
from training.drafter import Settings
from training.eagle3 import Eagle3Drafter
from training.kinds import KINDS
from training.mtp import MtpDrafter

SETTINGS = Settings(depth=3, anchors=4)
ANCHOR = 11


def drafter_of(kind: str) -> ChainDrafter:
    """Random weights, nothing left at its start."""
    model = tiny_llama()
    drafter = KINDS[kind](model.config, torch.arange(3, 67), SETTINGS)
    assert isinstance(drafter, ChainDrafter)
    drafter.borrow(model)
    torch.manual_seed(2)
    for weight in drafter.parameters():
        torch.nn.init.normal_(weight, 1.0 if weight.ndim == 1 else 0.0, 0.2)
    return drafter.requires_grad_(False)


def by_transformers(drafter: MtpDrafter, embeddings: Tensor, states: Tensor) -> Tensor:
    """[H]: the output for the last of the pairs, the decoder layer being transformers' own."""
    model = drafter.model[0]
    layer = LlamaDecoderLayer(model.config, 0).eval()
    weights = drafter.state_dict()
    layer.load_state_dict({name: weights[name] for name in layer.state_dict()})
    both = torch.cat([norm(embeddings, drafter.enorm.weight), norm(states, drafter.hnorm.weight)], -1)
    positions = torch.arange(len(states))[None]
    x = (both @ drafter.eh_proj.weight.T)[None]
    out = layer(x, position_embeddings=model.model.rotary_emb(x, positions), position_ids=positions)
    return norm(out[0, -1], drafter.norm.weight)


def by_hand(drafter: Eagle3Drafter, embeddings: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """([H] for the head, [H] for the next step) of the last pair: dense causal attention, rotated by transformers."""
    part = drafter.self_attn
    both = torch.cat([norm(embeddings, drafter.input_layernorm.weight), norm(states, drafter.hidden_norm.weight)], -1)
    q, k, v = (
        (both @ m.weight.T).view(1, len(states), -1, part.dim).transpose(1, 2)
        for m in (part.q_proj, part.k_proj, part.v_proj)
    )
    model = tiny_llama()
    cos, sin = model.model.rotary_emb(q, torch.arange(len(states))[None])
    q, k = apply_rotary_pos_emb(q, k, cos, sin)
    seen = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2).flatten(2)
    x = states[-1] + part.o_proj(seen)[0, -1]
    x = x + drafter.mlp(norm(x, drafter.post_attention_layernorm.weight))
    return norm(x, drafter.norm.weight), x


def norm(x: Tensor, gain: Tensor) -> Tensor:
    return F.rms_norm(x, (HIDDEN,), gain, tiny_llama().config.rms_norm_eps)


@pytest.mark.parametrize("kind", ["eagle3", "mtp"])
def test_an_unrolled_step_is_the_step_of_that_chain_alone(kind: str) -> None:
    drafter = drafter_of(kind)
    batch = pad(answers(tiny_llama(), 2), "cpu")
    anchors = torch.tensor([[6, ANCHOR, 9], [7, 8, ANCHOR]])
    states, embeddings = drafter.target_states(batch), drafter.embedding[batch.ids]
    chain = list(states[0, :ANCHOR])
    for step, (hidden, _) in enumerate(drafter.unroll(batch, anchors)):
        pairs = embeddings[0, 1 : ANCHOR + 1 + step]
        if isinstance(drafter, MtpDrafter):
            want = own = by_transformers(drafter, pairs, torch.stack(chain))
        else:
            assert isinstance(drafter, Eagle3Drafter)
            want, own = by_hand(drafter, pairs, torch.stack(chain))
        torch.testing.assert_close(hidden[0, 1], want, rtol=1e-4, atol=1e-4)
        chain.append(own)


@pytest.mark.parametrize("kind", ["eagle3", "mtp"])
def test_drafting_takes_the_steps_that_training_unrolls(kind: str) -> None:
    drafter, row = drafter_of(kind), answers(tiny_llama(), 1)[0]
    batch = pad([row], "cpu")
    states = drafter.target_states(batch)[0]
    last = states if kind == "mtp" else batch.last[0]
    drafted = drafter.propose(batch.ids[0, : ANCHOR + 1], batch.taps[0, :ANCHOR], last[:ANCHOR])
    batch.ids[0, ANCHOR + 1 : ANCHOR + 1 + len(drafted)] = torch.tensor(drafted)  # as if the answer were the draft
    steps = list(drafter.unroll(batch, torch.tensor([[ANCHOR]])))
    assert len(drafted) == SETTINGS.depth
    assert drafted == [int(drafter.choose(hidden[0])) for hidden, _ in steps]


def test_states_of_prompts_are_the_targets_own() -> None:
    drafter, model = drafter_of("mtp"), tiny_llama()
    batch = pad(answers(model, 1), "cpu")
    whole = model(batch.ids[:, :-1], output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(drafter.target_states(batch), whole, rtol=2e-2, atol=2e-2)  # stored in float16


def test_the_files_of_an_eagle3_drafter_have_the_plain_layouts_names() -> None:
    config, tensors = drafter_of("eagle3").files()
    h, size = HIDDEN, 64
    attention = {"q_proj": [h, 2 * h], "k_proj": [h // 2, 2 * h], "v_proj": [h // 2, 2 * h], "o_proj": [h, h]}
    shapes = {f"midlayer.self_attn.{name}.weight": shape for name, shape in attention.items()}
    shapes |= {
        f"midlayer.{name}.weight": [h] for name in ("input_layernorm", "hidden_norm", "post_attention_layernorm")
    }
    shapes |= {f"midlayer.mlp.{name}_proj.weight": [48, h] for name in ("gate", "up")}
    shapes |= {"midlayer.mlp.down_proj.weight": [h, 48], "fc.weight": [h, 3 * h], "norm.weight": [h]}
    shapes |= {"lm_head.weight": [size, h], "d2t": [size], "t2d": [VOCABULARY]}
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == shapes
    assert (tensors["d2t"] + torch.arange(size)).tolist() == tensors["t2d"].nonzero()[:, 0].tolist()
    assert config["architectures"] == ["LlamaForCausalLMEagle3"]
    assert config["eagle_config"]["eagle_aux_hidden_state_layer_ids"] == [2, 4, 7]


def test_the_files_of_an_mtp_head_continue_the_targets_layers() -> None:
    config, tensors = drafter_of("mtp").files()
    own = {"enorm", "hnorm", "eh_proj", "shared_head.norm", "input_layernorm", "post_attention_layernorm"}
    own |= {f"self_attn.{name}_proj" for name in "qkvo"} | {f"mlp.{name}_proj" for name in ("gate", "up", "down")}
    assert set(tensors) == {f"model.layers.{LAYERS}.{name}.weight" for name in own}
    assert (config["num_nextn_predict_layers"], config["num_hidden_layers"]) == (1, LAYERS)
