"""DeepSpec's drafters for Gemma 4 behind a Gemma 4 target: built, checked, and the output is the target's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspark_engines import Bundle, GenerationRequest, Generator, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Limits
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.checkpoints import open_drafter, open_target
from dspark_export.checks import check_identity, compare_engines
from dspark_export.parity.check import compare_with_torch
from tests.support import tiny
from tests.support.command_line import generate, run
from tests.support.gemma4_drafters import KINDS, write_gemma4_drafter
from tests.support.lowered import lowered_bundle

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LIMITS = Limits(context_length=96, prefill_chunk=16, slots=2)
PROMPTS = [[5, 6, 7, 8], [9, 3], list(range(4, 60))]
TARGET: dict[str, Any] = {
    "vocab_size": tiny.VOCAB, "hidden_size": tiny.HIDDEN, "intermediate_size": 64, "num_hidden_layers": tiny.LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "global_head_dim": 32,
    "num_global_key_value_heads": 1, "attention_k_eq_v": True, "hidden_size_per_layer_input": 0,
    "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2, "final_logit_softcapping": 3.0,
    "vocab_size_per_layer_input": tiny.VOCAB, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
TABLES = ("embed_tokens.weight", "lm_head.weight")
DRAFTERS: dict[str, dict[str, Any]] = {
    "released": {},
    "with the target's tables": {"without": TABLES},
    "rnn, values of their own": KINDS["rnn"] | KINDS["values of their own"],
    "dflash": KINDS["dflash"],
}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tiny.write_target(tmp_path_factory.mktemp("gemma4") / "target")  # its tokenizer; the rest is written over
    model = transformers.Gemma4ForCausalLM(transformers.Gemma4TextConfig(**TARGET))
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.15)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[(kind, precision) for kind in DRAFTERS for precision in ("fp32", "int8")])
def bundle(request: pytest.FixtureRequest, target: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    (kind, precision), root = request.param, tmp_path_factory.mktemp("bundle")
    keys = {"target_model_type": "gemma4", "target_text_model_type": "gemma4_text"} | DRAFTERS[kind]
    drafter = write_gemma4_drafter(root / "drafter", **keys)
    build_bundle(BuildPlan(target, drafter, root / "b", "onnxruntime", LIMITS, precision=precision), Silent())
    return open_bundle(root / "b")


def test_the_output_is_the_target_s(bundle: Bundle) -> None:
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        report = check_identity(engines, bundle.manifest, PROMPTS, 32, lambda *_: None)
    assert report.passed
    assert not report.differences
    assert max(r.proposed for result in report.results for r in result.rounds) == tiny.BLOCK


def test_engines_and_graphs_agree(bundle: Bundle, target: Path, tmp_path: Path) -> None:
    """In float32 with the oracle too, and as far as GPU backends go."""
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        results = compare_engines(bundle, engines)
    if bundle.manifest.precision == "fp32":
        opened = open_target(target)
        results += compare_with_torch(bundle, opened, open_drafter(bundle.path.parent / "drafter", opened.spec))
        results += compare_engines(bundle, lowered_bundle(bundle, tmp_path))
    assert all(result.passed for result in results), results


def test_rounds_are_those_of_the_torch_loop(bundle: Bundle, target: Path) -> None:
    if bundle.manifest.precision == "int8":
        pytest.skip("the oracle computes in float32")
    from dspark_export import parity

    opened = open_target(target)
    drafter, table = open_drafter(bundle.path.parent / "drafter", opened.spec), opened.weights["embed_tokens.weight"]
    modules = (
        parity.TargetModule(opened.spec, opened.weights),
        parity.DrafterModule(drafter.spec, drafter.weights, table, table),
    )
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        for prompt in PROMPTS[:2]:
            result = Generator(engines, bundle.manifest).run(GenerationRequest(prompt, 10))
            tokens, accepted = parity.speculative_greedy(*modules, prompt, 10, {2})
            assert result.token_ids == tokens
            assert [r.accepted for r in result.rounds] == accepted


def test_on_the_command_line(bundle: Bundle, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on, off = (generate(capsys, bundle.path, "--prompt=hello", f"--speculation={how}") for how in ("on", "off"))
    assert on["token_ids"] == off["token_ids"]
    given = ("--target", target, "--drafter", bundle.path.parent / "drafter")
    oracle = given if bundle.manifest.precision == "fp32" else ()  # 8 bits are held against their own graph
    checked = run(capsys, "check", bundle.path, *oracle, "--max-new-tokens", "16")
    assert ": 0 differ" in checked.out, checked.err
    assert "FAILED" not in checked.out  # it may be inconclusive: of such drafts hardly one is accepted
