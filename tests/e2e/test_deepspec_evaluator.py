"""DeepSpec's own evaluator on the real pair: the same tokens, and the same number of them a round.

DSPARK_TEST_DEEPSPEC names a checkout of it, which runs with transformers 5.10. The example's drafter has a reduced
vocabulary, which DeepSpec does not know: its head is laid out over all tokens here, with rows of zeros for the others.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dspark_engines import open_bundle
from dspark_export.checkpoints import open_drafter, open_target
from dspark_export.commands.main import main
from dspark_export.prompts import Prompt, encode_prompts, read_prompt_set
from tests.support.real_target import target_file, target_model

SOURCE = os.environ.get("DSPARK_TEST_DEEPSPEC", "")
ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ROOT / "calibration" / "prompts" / "evaluation.jsonl"
DRAFTER = ROOT / "examples" / "smollm2" / "drafter"
TOKENS, EVERY = 64, 16
FULL = ("lm_head.weight", "markov_head.markov_w2.weight")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SOURCE, reason="DSPARK_TEST_DEEPSPEC does not name a checkout of DeepSpec"),
]


@pytest.fixture(scope="module")
def evaluator(smollm2_bundle: Path) -> Any:
    """Theirs, with the weights that the bundle was built from."""
    transformers = pytest.importorskip("transformers")
    if not transformers.__version__.startswith("5.10."):
        pytest.skip("DeepSpec runs with transformers 5.10")
    target = open_target(target_file(open_bundle(smollm2_bundle)))
    sys.path.insert(0, SOURCE)
    module = importlib.import_module("deepspec.eval.dspark.evaluator")
    made = object.__new__(module.Qwen3DSparkEvaluator)
    made.target_model = target_model(target)
    made.draft_model = draft_model(transformers, target)
    made.args = SimpleNamespace(temperature=0.0, confidence_threshold=0.0, max_new_tokens=TOKENS)
    made.confidence_head_recorder = None
    return made


def draft_model(transformers: Any, target: Any) -> Any:
    import torch

    drafter = open_drafter(DRAFTER, target.spec)
    spec, layer = drafter.spec, drafter.spec.shape.layers[0]
    config = transformers.Qwen3Config(
        vocab_size=spec.vocab_size, hidden_size=spec.shape.hidden_size, intermediate_size=layer.intermediate_size,
        num_hidden_layers=spec.shape.num_layers, num_attention_heads=layer.num_heads,
        num_key_value_heads=layer.num_kv_heads, head_dim=layer.head_dim, rms_norm_eps=spec.shape.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": layer.rope.theta}, tie_word_embeddings=False,
        block_size=spec.block_size, mask_token_id=spec.mask_token_id, num_anchors=4,
        target_layer_ids=list(spec.target_layer_ids), num_target_layers=spec.num_target_layers,
        markov_rank=spec.markov.rank, markov_head_type=spec.markov.kind,
        enable_confidence_head=spec.confidence.enabled, confidence_head_with_markov=spec.confidence.with_markov,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    module = importlib.import_module("deepspec.modeling.dspark.qwen3")
    arrays = {name: np.array(drafter.weights[name], np.float32) for name in drafter.weights.shapes}
    table = np.array(target.weights["embed_tokens.weight"])
    head = {"lm_head.weight": table[list(spec.draft_vocabulary)]}  # the target's, where it has none of its own
    arrays = {"embed_tokens.weight": table} | {name: widened(name, x, spec) for name, x in (head | arrays).items()}
    model = module.Qwen3DSparkModel(config)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    return model.eval()


def widened(name: str, array: np.ndarray, spec: Any) -> np.ndarray:
    """Rows for all tokens: zeros for those that the drafter cannot draft."""
    if name not in FULL or not spec.draft_vocabulary:
        return array
    wide = np.zeros((spec.vocab_size, array.shape[1]), np.float32)
    wide[list(spec.draft_vocabulary)] = array
    return wide


def evaluated(bundle: Path, prompts: list[Prompt], folder: Path) -> list[dict[str, Any]]:
    """What `eval` records of DSpark's answers, in the order of the prompts."""
    lines = [json.dumps({"id": prompt.id, "source": "all", "prompt": prompt.text}) for prompt in prompts]
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    arguments = ["--drafter=dspark", "--scheduler=fixed", f"--max-new-tokens={TOKENS}", f"--output={folder}/eval"]
    assert main(["eval", str(bundle), f"--prompts={folder}/prompts.jsonl", *arguments]) == 0
    records = [json.loads(line) for line in (folder / "eval" / "records.jsonl").read_text().splitlines()[1:]]
    by_prompt = {record["prompt"]: record for record in records if record["way"] == "dspark"}
    return [by_prompt[prompt.id] for prompt in prompts]


def test_eval_and_their_evaluator_count_the_same_rounds(evaluator: Any, smollm2_bundle: Path, tmp_path: Path) -> None:
    import torch

    bundle, prompts = open_bundle(smollm2_bundle), read_prompt_set(PROMPTS)[::EVERY]
    ours, counts = evaluated(smollm2_bundle, prompts, tmp_path), [0, 0, 0]
    for ids, record in zip(encode_prompts(bundle, prompts), ours, strict=True):
        with torch.inference_mode():
            theirs = evaluator.generate_one_sample(
                input_ids=torch.tensor([ids]), stop_token_ids=bundle.manifest.target.eos_token_ids
            )
        text = theirs.output_ids[0, len(ids) :].tolist()
        assert record["token_ids"][: len(text)] == text[: len(record["token_ids"])]
        both = list(zip(record["rounds"], theirs.acceptance_lengths, strict=False))[:-1]  # ours stops at the limit
        for index, value in enumerate((len(both), sum(r[2] for r, _ in both), sum(n for _, n in both))):
            counts[index] += value
    rounds, mine, its = counts
    assert rounds > 100
    assert mine / rounds == pytest.approx(its / rounds, rel=0.01)
    print(f"accepted length: eval {mine / rounds:.4f}, DeepSpec's {its / rounds:.4f}, {rounds} rounds")
