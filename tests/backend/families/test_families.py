"""Every target family as transformers saves it: our graph and our oracle give transformers' logits and states."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from dspark_export.checkpoints import TargetSpec, Weights
from dspark_export.checkpoints.dialects.hugging_face import read_hf_target
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.seams import get_family
from dspark_export.graphs import save_graph
from dspark_export.graphs.save import SMALL
from dspark_export.reference_graph import ReferenceGraph

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCAB, WINDOW, LONGEST, CHUNK = 97, 24, 1100, 256
CONTEXTS = (1, 17, LONGEST)
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "attn_implementation": "eager",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 128}
SLIDING = {"use_sliding_window": True, "sliding_window": WINDOW}
GEMMA: dict[str, Any] = {"num_hidden_layers": 7, "sliding_window": WINDOW, "query_pre_attn_scalar": 11}
MOE: dict[str, Any] = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True}
OSS: dict[str, Any] = {"num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": WINDOW, "swiglu_limit": 0.5}
GEMMA4: dict[str, Any] = {
    "num_hidden_layers": 7, "sliding_window": WINDOW, "global_head_dim": 32, "vocab_size_per_layer_input": VOCAB,
    "hidden_size_per_layer_input": 8,
}  # fmt: skip
GEMMA4_MOE: dict[str, Any] = {
    "enable_moe_block": True, "num_experts": 6, "top_k_experts": 2, "moe_intermediate_size": 24}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}
BY_LAYER = {"full_attention": LINEAR, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama, untied": ("Llama", {"tie_word_embeddings": False}),
    "llama, biases": ("Llama", {"attention_bias": True}),
    "llama, linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "llama, dynamic": ("Llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}}),
    "llama, yarn": ("Llama", {"rope_parameters": YARN}),
    "llama, yarn with its magnitude": ("Llama", {"rope_parameters": YARN | {"attention_factor": 0.8}}),
    "llama, yarn as DeepSeek's": ("Llama", {"rope_parameters": YARN | {"mscale": 0.7, "mscale_all_dim": 1.0}}),
    "llama, yarn as gpt-oss's": ("Llama", {"rope_parameters": YARN | {"truncate": False, "beta_fast": 20.0}}),
    "llama, llama3": ("Llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}),
    "mistral, sliding": ("Mistral", {"sliding_window": WINDOW}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 24}),
    "qwen2": ("Qwen2", {}),
    "qwen2, untied": ("Qwen2", {"tie_word_embeddings": False}),
    "qwen2, sliding from a layer on": ("Qwen2", SLIDING | {"max_window_layers": 1}),
    "qwen2, sliding by types": ("Qwen2", SLIDING | {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
    "qwen2, a window that is off": ("Qwen2", {"sliding_window": WINDOW, "max_window_layers": 0}),
    "qwen3": ("Qwen3", {}),
    "qwen3, biases": ("Qwen3", {"attention_bias": True}),
    "qwen3, sliding": ("Qwen3", SLIDING | {"max_window_layers": 2}),
    "qwen3 moe": ("Qwen3Moe", MOE),
    "qwen3 moe, mixed": ("Qwen3Moe", MOE | {"norm_topk_prob": False, "decoder_sparse_step": 2}),
    "qwen3 moe, by layers": ("Qwen3Moe", MOE | SLIDING | {"mlp_only_layers": [0], "attention_bias": True}),
    "gpt-oss": ("GptOss", OSS),
    "gpt-oss, by types": ("GptOss", OSS | {
        "layer_types": ["full_attention", "full_attention", "sliding_attention"], "rope_parameters": LINEAR}),
    "gemma3": ("Gemma3", GEMMA),
    "gemma3, linear on full layers": ("Gemma3", GEMMA | {"rope_parameters": BY_LAYER}),
    "gemma3, softcap": ("Gemma3", GEMMA | {"final_logit_softcapping": 30.0}),
    "gemma3, by types": ("Gemma3", GEMMA | {
        "num_hidden_layers": 3, "layer_types": ["full_attention", "sliding_attention", "full_attention"]}),
    "gemma3, massive activations": ("Gemma3", GEMMA),
    "gemma3, with pictures": ("Gemma3 with pictures", GEMMA),
    "gemma4": ("Gemma4", GEMMA4),
    "gemma4, keys for values": ("Gemma4", GEMMA4 | {
        "attention_k_eq_v": True, "num_global_key_value_heads": 1, "hidden_size_per_layer_input": 0,
        "final_logit_softcapping": 30.0}),
    "gemma4, experts": ("Gemma4", GEMMA4 | GEMMA4_MOE),
    "gemma4, experts and shared keys": ("Gemma4", GEMMA4 | GEMMA4_MOE | {
        "layer_types": ["sliding_attention", "full_attention"] * 3 + ["full_attention"], "attention_k_eq_v": True,
        "num_kv_shared_layers": 3, "use_double_wide_mlp": True, "hidden_size_per_layer_input": 0}),
    "gemma4 unified": ("Gemma4Unified", {
        key: value for key, value in GEMMA4.items() if "per_layer" not in key} | {"attention_k_eq_v": True}),
    "gemma4, shared keys": ("Gemma4", GEMMA4 | {
        "layer_types": ["sliding_attention", "full_attention"] * 3 + ["full_attention"],
        "num_kv_shared_layers": 3, "use_double_wide_mlp": True}),
}  # fmt: skip
PICTURES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
CLASSES = {
    "Gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM"),
    "Gemma4": ("Gemma4TextConfig", "Gemma4ForCausalLM"),
    "Gemma4Unified": ("Gemma4UnifiedTextConfig", "Gemma4UnifiedForCausalLM"),
}


class Family(NamedTuple):
    """One case: transformers' model, and what we read of what it saved."""

    model: Any
    spec: TargetSpec
    weights: Weights


@pytest.fixture(scope="module", params=CASES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    architecture, keys = CASES[request.param]
    config, model = CLASSES.get(architecture, (f"{architecture}Config", f"{architecture}ForCausalLM"))
    folder = tmp_path_factory.mktemp("family")
    tied = {"tie_word_embeddings": keys.get("tie_word_embeddings", True)}
    if architecture.endswith("with pictures"):
        text = transformers.Gemma3TextConfig(**SIZES | keys | tied)
        whole = transformers.Gemma3Config(text_config=text, vision_config=PICTURES, mm_tokens_per_image=4)
        theirs = transformers.Gemma3ForConditionalGeneration._from_config(whole, attn_implementation="eager").eval()
    else:
        theirs = getattr(transformers, model)(getattr(transformers, config)(**SIZES | keys | tied)).eval()
    for name, parameter in theirs.named_parameters():
        parameter.data.normal_(0, 0.3 if name.endswith("bias") or parameter.ndim == 1 else 0.15)
    for name, buffer in theirs.named_buffers():
        if name.endswith("layer_scalar"):  # 1 in releases, and read all the same
            buffer.fill_(0.8)
    if request.param.endswith("massive activations"):  # one channel drowns all others, from the first layer on
        theirs.model.embed_tokens.weight.data[:, 7] *= 3e3
    theirs.save_pretrained(folder)
    return Family(theirs.requires_grad_(False), *read_hf_target(folder))


def theirs_of(family: Family, ids: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Logits [S, V] and the states that can be tapped, embedding first, [S, H] each."""
    found = family.model(torch.from_numpy(ids)[None], output_hidden_states=True, use_cache=False)
    return found.logits[0].numpy(), [state[0].numpy() for state in found.hidden_states[:-1]]


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_family_is_transformers_own(family: Family, context: int, tmp_path: Path) -> None:
    """Past every window and scaling boundary, read in steps: a short text does not show a window, nor a linear factor
    on the wrong layers, and keys that layers share have to come out of the cache."""
    spec, ids = family.spec, np.random.default_rng(context).integers(3, VOCAB, context)
    logits, states = theirs_of(family, ids)
    taps = tuple(range(-1, spec.shape.num_layers - 1))
    graph = get_family(spec.architecture).build_graph(spec, family.weights, taps, LONGEST)
    save_graph(graph, tmp_path / "target.onnx")
    reference, parts = ReferenceGraph(tmp_path / "target.onnx", 1, LONGEST), []
    for start in range(0, context, CHUNK):
        part = ids[start : start + CHUNK]
        feeds = {"row_lengths": [len(part)], "used": [start], "logit_rows": range(len(part))}
        parts.append(reference.step(token_ids=part, **{k: np.array(v, np.int64) for k, v in feeds.items()}))
    assert_close(np.concatenate([part["logits"] for part in parts]), logits)
    assert_close(np.concatenate([part["features"] for part in parts]), np.concatenate(states, -1))


@pytest.mark.parametrize("family", ["qwen3", "qwen3 moe", "gpt-oss", "gemma4, experts"], indirect=True)
def test_an_export_reads_every_tensor_once(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those inside the graph's own file, which are tiny, may be asked for again."""
    spec, reads, load = family.spec, Counter[str](), SafetensorsSource.load

    def counted(source: SafetensorsSource, name: str) -> np.ndarray:
        reads[name] += 1
        return load(source, name)

    monkeypatch.setattr(SafetensorsSource, "load", counted)
    save_graph(get_family(spec.architecture).build_graph(spec, family.weights, (0,), LONGEST), tmp_path / "target.onnx")
    large = {
        name for name, shape in SafetensorsSource(family.weights.path).shapes.items() if 4 * np.prod(shape) > SMALL
    }
    assert {name: reads[name] for name in large} == dict.fromkeys(large, 1)


@pytest.mark.parametrize("context", [17, 101])
def test_the_oracle_of_a_family_is_transformers_own(family: Family, context: int) -> None:
    ids = np.random.default_rng(context).integers(3, VOCAB, context)
    with torch.inference_mode():
        oracle = get_family(family.spec.architecture).build_oracle(family.spec, family.weights)
        logits, states = oracle(torch.from_numpy(ids)[None])
    expected, taps = theirs_of(family, ids)
    assert_close(logits[0].numpy(), expected)
    for ours, tap in zip(states[:-1], taps, strict=True):
        assert_close(ours[0].numpy(), tap)


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """In shares of the largest number: sums of float32 in another order."""
    assert np.abs(ours - theirs).max() <= 2e-5 * max(1.0, float(np.abs(theirs).max()))
