"""The torch oracle: target against transformers, heads against their formulas, loops against each other."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_args

import numpy as np
import pytest

from dspark_export.checkpoints import spec as specs
from dspark_export.checkpoints.expected import drafter_tensors, target_tensors
from dspark_export.checkpoints.spec import ConfidenceSpec, MarkovKind, RopeSpec, TargetSpec

torch = pytest.importorskip("torch")
from dspark_export import parity  # noqa: E402
from dspark_export.parity import generate  # noqa: E402

GAMMA, VOCAB, HIDDEN, RANK = 4, 23, 16, 3
LAYER = specs.LayerSpec(num_heads=4, num_kv_heads=2, head_dim=8, intermediate_size=40, rope=RopeSpec(500.0))
SHAPE = specs.DecoderShape(hidden_size=HIDDEN, rms_norm_eps=1e-5, layers=(LAYER,) * 3)
TARGET = TargetSpec("llama", SHAPE, VOCAB, 256, True, (2,), 1)
ROPES = (RopeSpec(500.0), RopeSpec(500.0, "linear", 4.0), RopeSpec(5e3, "llama3", 8.0, 1.0, 4.0, 32))
TOLERANCE = 1e-5


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Any]:
    """Norms near one, biases and tables of order one, matrices that keep the size of what they multiply."""
    rng, weights = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        plain = len(shape) == 1 or "embed" in name or "markov_w" in name
        array = rng.normal(0.0, 1.0 if plain else 1 / math.sqrt(shape[-1]), shape)
        weights[name] = (1.0 + 0.1 * array if "norm" in name else array).astype(np.float32)
    return weights


def tiny_target() -> Any:
    return parity.TargetModule(TARGET, random_weights(target_tensors(TARGET), 0))


def drafter_and_weights(markov: MarkovKind, confidence: ConfidenceSpec) -> tuple[Any, dict[str, Any]]:
    layer, rank = dataclasses.replace(LAYER, qk_norm=True), 0 if markov == "none" else RANK
    spec = specs.DrafterSpec(
        shape=dataclasses.replace(SHAPE, layers=(layer,) * 2),
        vocab_size=VOCAB,
        block_size=GAMMA,
        mask_token_id=5,
        target_layer_ids=(-1, 1),
        num_target_layers=SHAPE.num_layers,
        markov=specs.MarkovSpec(markov, rank),
        confidence=confidence,
        own_embedding=False,
        own_head=False,
    )
    weights = random_weights(drafter_tensors(spec), 1)
    table = random_weights({"embed": (VOCAB, HIDDEN)}, 2)["embed"]
    return parity.DrafterModule(spec, weights, table, table), weights


def huggingface_pair(architecture: str, spec: TargetSpec, weights: dict[str, Any]) -> Any:
    """The transformers model with the same weights."""
    transformers = pytest.importorskip("transformers")
    s, layer = spec.shape, spec.shape.layers[0]
    rope = {"rope_type": layer.rope.kind, "rope_theta": layer.rope.theta}
    if layer.rope.kind != "default":
        rope["factor"] = layer.rope.factor
    if layer.rope.kind == "llama3":
        rope |= {"low_freq_factor": layer.rope.low_freq_factor, "high_freq_factor": layer.rope.high_freq_factor}
        rope |= {"original_max_position_embeddings": layer.rope.original_max_positions}
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=spec.vocab_size, hidden_size=s.hidden_size, intermediate_size=layer.intermediate_size,
        num_hidden_layers=s.num_layers, num_attention_heads=layer.num_heads, num_key_value_heads=layer.num_kv_heads,
        head_dim=layer.head_dim, rms_norm_eps=s.rms_norm_eps, rope_parameters=rope, max_position_embeddings=256,
        tie_word_embeddings=spec.tied_embeddings, attn_implementation="eager",
    )  # fmt: skip
    model = getattr(transformers, f"{architecture}ForCausalLM")(config).eval()
    state = {n if n.startswith("lm_head") else f"model.{n}": torch.from_numpy(w) for n, w in weights.items()}
    if spec.tied_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    return model.requires_grad_(False)


def assert_close(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=False)


@pytest.mark.parametrize("architecture", ["Llama", "Qwen3"])
@pytest.mark.parametrize("rope", ROPES, ids=lambda rope: rope.kind)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_target_matches_transformers(architecture: str, rope: RopeSpec, tied: bool) -> None:
    """Tap k is what leaves layer k, hidden_states[k + 1]; the last of these is normed, which is why it is no tap."""
    layer = dataclasses.replace(LAYER, rope=rope, qk_norm=architecture == "Qwen3")
    shape = dataclasses.replace(SHAPE, layers=(layer,) * 3)
    spec = dataclasses.replace(TARGET, shape=shape, tied_embeddings=tied)
    weights = random_weights(target_tensors(spec), 0)
    model, target = huggingface_pair(architecture, spec, weights), parity.TargetModule(spec, weights)
    ids = torch.randint(VOCAB, (2, 61), generator=torch.Generator().manual_seed(0))
    theirs = model(ids, output_hidden_states=True)
    logits, states = target(ids)
    assert_close(logits, theirs.logits)
    for tap in range(-1, shape.num_layers - 1):  # tap k is hidden_states[k + 1]
        assert_close(target.features(states, [tap]), theirs.hidden_states[tap + 1])
    assert_close(target.norm(states[-1]), theirs.hidden_states[-1])  # transformers norms the last one
    assert target.features(states, [1, -1]).shape == (2, 61, 2 * HIDDEN)


@pytest.mark.parametrize("tap", [-2, SHAPE.num_layers - 1])
def test_forbidden_taps(tap: int) -> None:
    target = tiny_target()
    with pytest.raises(ValueError, match=f"tap {tap}"):
        target.features(target(torch.tensor([[1]]))[1], [tap])


def test_cache_and_rollback() -> None:
    target = tiny_target()
    cache, ids = parity.KeyValueCache(SHAPE.num_layers), torch.arange(20)[None]
    target(ids[:, :9], cache)
    target(ids[:, :6] + 3, cache)  # rejected tokens
    cache.truncate(9)
    assert_close(target(ids[:, 9:], cache)[0], target(ids)[0][:, 9:])


def test_load_names_the_tensor() -> None:
    weights = random_weights(target_tensors(TARGET), 0)
    with pytest.raises(RuntimeError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        parity.TargetModule(TARGET, {n: w for n, w in weights.items() if n != "layers.1.mlp.up_proj.weight"})
    with pytest.raises(RuntimeError, match=r"layers\.0\.self_attn\.q_norm\.weight"):
        parity.TargetModule(TARGET, {**weights, "layers.0.self_attn.q_norm.weight": np.ones(8, np.float32)})


def expected_draft(w: dict[str, Any], markov: str, base: Any, hidden: Any, token: int) -> Any:
    """Greedy ids, confidence logits and logits, straight from the formulas."""
    ids, confidences, logits, state = [], [], [], np.zeros(RANK)
    for u, h in zip(base, hidden, strict=True):
        e = w["markov_head.markov_w1.weight"][token] if markov != "none" else np.zeros(0)
        proj = w["confidence_head.proj.weight"][0]
        confidences.append(np.concatenate([h, e]) @ proj + w["confidence_head.proj.bias"][0])
        x = e
        if markov == "gated":
            gate, bias = w["markov_head.gate_proj.weight"], w["markov_head.gate_proj.bias"]
            x = e / (1 + np.exp(-gate @ np.concatenate([h, e]) - bias))
        if markov == "rnn":
            joint, bias = w["markov_head.joint_proj.weight"], w["markov_head.joint_proj.bias"]
            g, c, o = np.split(joint @ np.concatenate([state, e, h]) + bias, 3)
            keep, x = 1 / (1 + np.exp(-g)), np.tanh(o)
            state = keep * state + (1 - keep) * np.tanh(c)
        logits.append(u + (w["markov_head.markov_w2.weight"] @ x if markov != "none" else 0))
        ids.append(token := int(logits[-1].argmax()))
    return ids, np.array(confidences), np.array(logits)


@pytest.mark.parametrize("markov", get_args(MarkovKind))
def test_heads_match_formulas(markov: MarkovKind) -> None:
    """An rnn head carries its state through the block; a confidence head may be there without a Markov head."""
    drafter, weights = drafter_and_weights(markov, ConfidenceSpec(True, markov != "none"))
    base, hidden = drafter(torch.randn(6, 2 * HIDDEN, generator=torch.Generator().manual_seed(1)), 7)
    drafted = parity.draft_greedy(drafter, base, hidden, 7)
    wanted = expected_draft(weights, markov, base.double().numpy(), hidden.double().numpy(), 7)
    assert drafted[0].tolist() == wanted[0]
    assert_close(drafted[1], wanted[1])
    assert_close(drafted[2], wanted[2])


def test_sampling_is_inverse_cdf() -> None:
    drafter, _ = drafter_and_weights("vanilla", ConfidenceSpec(False, False))
    base, hidden = drafter(torch.zeros(0, 2 * HIDDEN), 7)
    uniforms = torch.tensor([0.0, 0.4, 0.9, 1.0])  # 1.0 is out of range, and clamped to the last index
    ids, confidences, logits = parity.draft_sampled(drafter, base, hidden, 7, 0.7, uniforms)
    cumulative = torch.softmax(logits.double() / 0.7, -1).cumsum(-1)
    assert ids.tolist() == [*(cumulative <= uniforms[:, None]).sum(-1)[:3].tolist(), VOCAB - 1]
    assert bool(confidences.isposinf().all())
    cold = parity.draft_sampled(drafter, base, hidden, 7, 0.0, uniforms)
    assert torch.equal(cold[0], parity.draft_greedy(drafter, base, hidden, 7)[0])


@pytest.mark.parametrize(
    ("drafts", "accepted"), [([4, 5, 6], 3), ([4, 5, 9], 2), ([9, 5, 6], 0), ([4, 2, 6], 2), ([], 0)]
)
def test_accepted_prefix(drafts: list[int], accepted: int) -> None:
    wanted = [4, 2 if 2 in drafts else 5, 6, 7]
    assert generate.accepted_prefix(drafts, wanted, {2}) == accepted


@pytest.mark.parametrize("wrong", [None, 0, 2])
def test_good_drafts_are_accepted(monkeypatch: pytest.MonkeyPatch, wrong: int | None) -> None:
    target, prompt = tiny_target(), [4, 9, 3]
    text = parity.greedy(target, prompt, 31, ())

    def cheat(session: generate.Session, _: Any, anchor: int) -> list[int]:
        start = len(session.ids) - len(prompt)  # the anchor's place in the text
        assert text[start] == anchor
        drafts = [*text, *[0] * GAMMA][start + 1 : start + 1 + GAMMA]
        return [(token + (j == wrong)) % VOCAB for j, token in enumerate(drafts)]

    monkeypatch.setattr(generate.Session, "draft", cheat)
    drafter, each = drafter_and_weights("vanilla", ConfidenceSpec(True, True))[0], GAMMA if wrong is None else wrong
    tokens, accepted = parity.speculative_greedy(target, drafter, prompt, 31, ())
    assert tokens == text
    assert accepted == [each] * (30 // (each + 1))


@pytest.mark.parametrize("limit", [0, 1, 2, 30])
@pytest.mark.parametrize("eos", [(), (2, 11, 19)], ids=["endless", "eos"])
def test_speculation_changes_nothing(limit: int, eos: tuple[int, ...]) -> None:
    target, drafter = tiny_target(), drafter_and_weights("vanilla", ConfidenceSpec(True, True))[0]
    for prompt in ([1], [4, 9, 3], [7] * 12):
        plain = parity.greedy(target, prompt, limit, eos)
        tokens, accepted = parity.speculative_greedy(target, drafter, prompt, limit, eos)
        assert tokens == plain
        drafted_end = len(accepted) > 0 and len(tokens) == len(accepted) + sum(accepted)
        assert drafted_end or len(tokens) == len(accepted) + sum(accepted) + (limit > 0)
        assert not drafted_end or tokens[-1] in eos
