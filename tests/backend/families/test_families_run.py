"""Families unlike Llama all the way: built, run with a drafter, and checked; as far as GPU backends go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspark_engines import open_bundle
from dspark_engines.errors import BackendError
from dspark_export.checkpoints.dialects.hugging_face import read_hf_target
from dspark_export.checkpoints.seams import get_family
from dspark_export.checks import compare_engines
from dspark_export.quantization.layers import linear_layers
from tests.support import tiny
from tests.support.command_line import run
from tests.support.lowered import lowered_bundle

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "vocab_size": tiny.VOCAB,
    "hidden_size": tiny.HIDDEN,
    "num_hidden_layers": tiny.LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
QWEN = {
    "num_experts_per_tok": 2,
    "num_experts": 5,
    "moe_intermediate_size": 24,
    "intermediate_size": 64,
    "mlp_only_layers": [1],
}
OSS = {"num_experts_per_tok": 2, "num_local_experts": 5, "intermediate_size": 24, "sliding_window": 8}
GEMMA: dict[str, Any] = {
    "intermediate_size": 64, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2,
    "global_head_dim": 32, "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": tiny.VOCAB,
}  # fmt: skip
GEMMA4_MOE: dict[str, Any] = {
    **GEMMA, "num_kv_shared_layers": 0, "enable_moe_block": True, "num_experts": 5, "top_k_experts": 2,
    "moe_intermediate_size": 24,
}  # fmt: skip
GEMMA3: dict[str, Any] = {
    "intermediate_size": 64, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2,
}  # fmt: skip
CONFIGS = {
    "Gemma3": "Gemma3TextConfig",
    "Qwen3Moe": "Qwen3MoeConfig",
    "GptOss": "GptOssConfig",
    "Gemma4": "Gemma4TextConfig",
}
KEYS = {"Qwen3Moe": QWEN, "GptOss": OSS, "Gemma3": GEMMA3, "Gemma4": GEMMA, "Gemma4 with experts": GEMMA4_MOE}
LIMITS = ("--context-length", "96", "--prefill-chunk", "16", "--slots", "2")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Target and drafter by the target's class, and what else it has."""
    torch.manual_seed(0)
    root, found = tmp_path_factory.mktemp("families"), {}
    for name, keys in KEYS.items():
        folder = tiny.write_target(root / name)  # its tokenizer; the rest is written over
        kind = name.split()[0]
        model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, CONFIGS[kind])(**SIZES, **keys))
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.15)
        model.save_pretrained(folder)
        found[name] = (folder, tiny.write_drafter(root / f"{name}.drafter"))
    return found


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["Qwen3Moe", "GptOss", "Gemma4", "Gemma4 with experts"])
def test_a_family_runs(
    pairs: dict[str, tuple[Path, Path]], name: str, precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Engines are the oracle's (in float32), and speculation changes no token."""
    given = ("--target", pairs[name][0], "--drafter", pairs[name][1])
    built = run(capsys, "build", *given, "--output", tmp_path / "b", "--precision", precision, *LIMITS)
    assert built.code == 0, built.err
    oracle = given if precision == "fp32" else ()  # 8 bits are held against their own graph
    checked = run(capsys, "check", tmp_path / "b", *oracle, "--max-new-tokens", "24")
    assert ": 0 differ" in checked.out, checked.err
    assert "FAILED" not in checked.out  # it may be inconclusive: of such drafts hardly one is accepted


def test_routers_stay_in_float32(pairs: dict[str, tuple[Path, Path]]) -> None:
    """Which experts a token takes follows from them; quantisation passes them by, and takes the layers around them."""
    for name in ("Qwen3Moe", "GptOss", "Gemma4 with experts"):
        spec, weights = read_hf_target(pairs[name][0])
        graph = get_family(spec.architecture).build_graph(spec, weights, (0,), 96).graph
        names = [layer.name for layer in linear_layers(graph)]
        assert "layers.0.self_attn.o_proj.weight" in names
        assert any("router" in known for known in graph.initializers)
        assert not [found for found in names if "router" in found]


def test_a_family_on_gpu_backends(
    pairs: dict[str, tuple[Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Padded steps take experts, two rotations, and keys of other layers; sinks are refused by name."""
    for name, (target, drafter) in pairs.items():
        given = ("--target", target, "--drafter", drafter, "--output", tmp_path / name, *LIMITS)
        assert run(capsys, "build", *given).code == 0
    for name in ("Qwen3Moe", "Gemma3", "Gemma4", "Gemma4 with experts"):
        bundle, folder = open_bundle(tmp_path / name), tmp_path / f"{name}.lowered"
        folder.mkdir()
        results = compare_engines(bundle, lowered_bundle(bundle, folder))
        assert all(result.passed for result in results), results
    with pytest.raises(BackendError, match="attention sinks, which GPU backends cannot"):
        lowered_bundle(open_bundle(tmp_path / "GptOss"), tmp_path)
