"""The benchmarks of the kernels: what they compare with is right, and without a GPU they say so in a line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dspark_plugins.accept.reference import accept
from dspark_plugins.markov_head import MarkovHeadSpec
from dspark_plugins.markov_head.reference import markov_head
from tests.support import accept_cases
from tests.support.accept_cases import random_case
from tests.support.markov_cases import feeds_for, off_the_edges, tamed, weights_for

ROOT = Path(__file__).resolve().parents[3]
BENCHMARKS = ROOT / "benchmarks"


def test_torch_baselines_equal_the_oracles(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import torch_baselines

    torch.set_num_threads(1)
    head = MarkovHeadSpec("vanilla", 4, 12, 8, confidence=False, confidence_with_markov=False)
    weights = tamed(weights_for(head, 300))
    for temperature in ([0.0] * 3, [0.0, 0.8, 1.0]):
        feeds = feeds_for(head, temperature, 1, 300)
        expected = markov_head(head, **feeds, weights=weights)
        assert off_the_edges(feeds, expected)
        tensors = {name: torch.from_numpy(array) for name, array in (feeds | weights).items()}
        ids, logits = torch_baselines.draft(tensors, sampling=max(temperature) > 0)
        np.testing.assert_array_equal(ids.numpy(), expected.draft_ids)
        if logits is not None:
            np.testing.assert_allclose(logits.numpy(), expected.draft_logits, atol=2e-5)
    feeds = random_case(6, 4, 300, 2, (0.0, 0.8, 1.0), lengths=[4] * 6)
    accepted, following = torch_baselines.accept({name: torch.from_numpy(array) for name, array in feeds.items()})
    assert accept_cases.assert_same(feeds, (accepted.numpy(), following.numpy()), accept(**feeds)) == 0


def test_without_a_gpu_it_says_so() -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu_kernels.py"), "--rows", "1"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[0].startswith("error: ")
    assert ran.stderr.splitlines()[1].startswith("hint: ")
