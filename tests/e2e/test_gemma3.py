"""The real Gemma 3 270M from its GGUF file: its first tokens are transformers' on the same dequantised weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dspark_engines import GenerationRequest, Runtime, open_bundle
from dspark_engines.bundle import Limits
from dspark_engines.text import TextCodec
from dspark_export.bundling import BuildPlan, Silent, build_bundle

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(os.environ.get("DSPARK_TEST_GEMMA3", ROOT / "build" / "models" / "gemma-3-270m-q4_k_m.gguf"))
PROMPTS = ROOT / "calibration" / "prompts" / "evaluation.jsonl"
NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
TOKENS, PAST_THE_WINDOW = 64, 700

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def theirs() -> Any:
    """transformers' model, filled by hand: its own reader of GGUF files needs a package more."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    if not FILE.is_file():
        pytest.skip(f"{FILE} is not there: python examples/gemma3/fetch_gemma.py")
    from gguf import GGUFReader, dequantize

    config = transformers.Gemma3TextConfig(
        vocab_size=262144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4,
        num_key_value_heads=1, head_dim=256, sliding_window=512, query_pre_attn_scalar=256,
        max_position_embeddings=32768,
    )  # fmt: skip
    state = {}
    for tensor in GGUFReader(FILE).tensors:
        stem = tensor.name.removesuffix(".weight")
        prefix = f"model.layers.{stem.split('.')[1]}." if stem.startswith("blk.") else ""
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        state[f"{prefix}{NAMES[stem.split('.')[-1]]}.weight"] = values - 1 if "norm" in stem else values
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = transformers.Gemma3ForCausalLM(config)
    model.load_state_dict(state, strict=True)
    return model.eval()


def test_the_first_tokens_past_the_window_too(theirs: Any, tmp_path: Path) -> None:
    import torch

    limits = Limits(context_length=1024, prefill_chunk=256, slots=2)
    build_bundle(BuildPlan(FILE, None, tmp_path / "gemma3", "onnxruntime", limits), Silent())
    bundle = open_bundle(tmp_path / "gemma3")
    codec = TextCodec(bundle)
    text = "\n\n".join(json.loads(line)["prompt"] for line in PROMPTS.read_text().splitlines())
    prompts = [codec.prompt_ids("The three primary colours are", raw=True), codec.prompt_ids(text, raw=True)]
    prompts[1] = prompts[1][:PAST_THE_WINDOW]
    with Runtime(bundle) as runtime:
        ours = [result.token_ids for result in runtime.generate(GenerationRequest(ids, TOKENS) for ids in prompts)]
    for ids, found in zip(prompts, ours, strict=True):
        out = theirs.generate(torch.tensor([ids]), max_new_tokens=TOKENS, do_sample=False)
        assert found == out[0, len(ids) :].tolist()
        assert len(found) == TOKENS
