"""Truncation: against Hugging Face's warpers, and against the definition spelled out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dspark_engines.sampling import SamplingParams, truncate

TRUNCATIONS: list[dict[str, Any]] = [
    *({"top_k": k} for k in (1, 2, 40, 999, 1000, 5000)),
    *({"top_p": p} for p in (1e-6, 0.1, 0.5, 0.9, 0.999, 0.999999)),
    *({"min_p": p} for p in (1e-6, 0.05, 0.5, 0.99)),
    {"top_k": 40, "top_p": 0.9},
    {"top_p": 0.8, "min_p": 0.1},
    {"top_k": 100, "top_p": 0.95, "min_p": 0.02},
]


def rows(vocab: int, seed: int = 0) -> np.ndarray:
    """Flat, middling and peaked logits."""
    scale = np.array([[0.1], [2.0], [8.0]])
    return (np.random.default_rng(seed).standard_normal((3, vocab)) * scale).astype(np.float32)


def spelled_out(logits: np.ndarray, params: SamplingParams) -> np.ndarray:
    """One row by sorting, in float64: of equal logits the lower ids first."""
    order = np.lexsort((np.arange(len(logits)), -logits))
    order = order[: params.top_k] if params.top_k else order
    weights = np.exp((logits[order].astype(np.float64) - logits.max()) / params.temperature)
    p = weights / weights.sum()
    nucleus = np.concatenate([[0.0], np.cumsum(p)[:-1]]) < params.top_p if params.top_p < 1 else True
    keep = nucleus & (p >= params.min_p * p[0])
    result = np.full_like(logits, -np.inf)
    result[order[keep]] = logits[order[keep]]
    return result


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
def test_it_matches_the_definition(truncation: dict[str, Any], temperature: float) -> None:
    params = SamplingParams(temperature=temperature, **truncation)
    for vocab in (1, 2, 1000):
        logits = rows(vocab)
        before = logits.copy()
        expected = np.stack([spelled_out(row, params) for row in logits])
        np.testing.assert_array_equal(truncate(logits, params), expected)
        np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
def test_it_matches_hugging_face(truncation: dict[str, Any], temperature: float) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    warpers = [transformers.TemperatureLogitsWarper(temperature)]
    for name, warper in (("top_k", "TopK"), ("top_p", "TopP"), ("min_p", "MinP")):
        if name in truncation:
            warpers.append(getattr(transformers, f"{warper}LogitsWarper")(truncation[name]))
    for seed in range(3):
        logits = rows(1000, seed)
        # The definition has no rounding; their sums in double keep it out of theirs too.
        scores = transformers.LogitsProcessorList(warpers)(None, torch.from_numpy(logits.astype(np.float64)))
        kept = np.isfinite(truncate(logits, SamplingParams(temperature=temperature, **truncation)))
        np.testing.assert_array_equal(kept, np.isfinite(scores.numpy()))


@pytest.mark.parametrize(
    "params", [SamplingParams(), SamplingParams(top_k=1), SamplingParams(temperature=0.7)], ids=str
)
def test_what_excludes_nothing_returns_its_input(params: SamplingParams) -> None:
    logits = rows(10)
    assert truncate(logits, params) is logits


@pytest.mark.parametrize(
    ("truncation", "kept"),
    [
        ({"top_k": 1}, [1]),
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 4}, [0, 1, 3, 4]),
        ({"top_k": 5}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.01}, [1]),
        ({"top_p": 0.5}, [1, 3]),
        ({"min_p": 0.99}, [1, 3, 4]),
    ],
    ids=str,
)
def test_equal_logits_go_by_id(truncation: dict[str, Any], kept: list[int]) -> None:
    logits = np.array([[1.0, 3.0, 1.0, 3.0, 3.0, 1.0]], np.float32)
    result = truncate(logits, SamplingParams(temperature=1.0, **truncation))
    assert np.flatnonzero(np.isfinite(result[0])).tolist() == kept


@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
def test_what_is_excluded_already_stays_so(truncation: dict[str, Any]) -> None:
    logits = rows(50)
    logits[:, ::2], logits[2, 2:] = -np.inf, -np.inf  # the last row has one token left
    result = truncate(logits, SamplingParams(temperature=1.0, **truncation))
    assert np.isneginf(result[:, ::2]).all()
    assert np.isfinite(result).any(-1).all()
    assert np.flatnonzero(np.isfinite(result[2])).tolist() == [1]
    np.testing.assert_array_equal(result.argmax(-1), logits.argmax(-1))


@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
@pytest.mark.parametrize("temperature", [1e-30, 1e-42, 1e-3, 1e30])
def test_extreme_temperatures_keep_the_arg_max(truncation: dict[str, Any], temperature: float) -> None:
    logits = rows(100)
    result = truncate(logits, SamplingParams(temperature=temperature, **truncation))
    np.testing.assert_array_equal(result.argmax(-1), logits.argmax(-1))
    if temperature < 1e-20 and "top_k" not in truncation:
        assert (np.isfinite(result).sum(-1) == 1).all()
