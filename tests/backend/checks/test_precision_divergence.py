"""How far int8 is from float32 at the output: none between a bundle and itself, else what the definition says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dspark_engines import Bundle
from dspark_engines.backends import get_backend
from dspark_engines.errors import BackendError
from dspark_export.checks.precision.divergence import measure_divergence
from tests.support.precision import ONE, TEXTS, diverge


def test_a_bundle_does_not_diverge_from_itself(exact: Bundle) -> None:
    same = diverge(exact, exact, TEXTS)
    assert same.tokens == 56
    assert (same.kl, same.kl_99, same.kl_max, same.top1) == (0.0, 0.0, 0.0, 1.0)
    assert same.perplexity == same.perplexity_reference
    assert same.perplexity > 2


def test_divergence_is_that_of_the_definition(exact: Bundle, int8: Bundle) -> None:
    """One text in one step, in the plainest form; in chunks it is the same."""
    text = TEXTS[-1]
    probabilities = []
    for bundle in (exact, int8):
        with get_backend("onnxruntime").open(bundle, ONE) as engines:
            out = engines.verify.step(
                [engines.verify.new_slot()], np.array(text), np.array([40]), np.array([0]), np.arange(40)
            )
            exp = np.exp(out.logits.astype(np.float64))
            probabilities.append(exp / exp.sum(axis=1, keepdims=True))
    p, q = probabilities
    kl = (p * np.log(p / q)).sum(axis=1)
    for chunk in (64, 40, 7, 1):
        found = diverge(exact, int8, [text], chunk)
        assert found.kl == pytest.approx(kl.mean(), rel=1e-3)
        assert found.kl_max == pytest.approx(kl.max(), rel=1e-3)
        assert found.top1 == (p.argmax(1) == q.argmax(1)).mean()
        perplexity = math.exp(-np.mean([math.log(q[i, text[i + 1]]) for i in range(39)]))
        assert found.perplexity == pytest.approx(perplexity, rel=1e-5)
        assert found.perplexity != found.perplexity_reference


def test_a_text_of_one_token_has_no_perplexity(exact: Bundle) -> None:
    assert diverge(exact, exact, [[5]])[-2:] == (1.0, 1.0)


def test_logits_that_are_not_finite_are_refused(exact: Bundle) -> None:
    class Broken:
        def new_slot(self) -> None: ...

        def step(self, *_: object) -> Any:
            return type("Output", (), {"logits": np.array([[0.0, np.nan]], np.float32)})

    with pytest.raises(BackendError, match="not finite"):
        measure_divergence(Broken(), Broken(), [[5]], 7, lambda done, total: None)  # type: ignore[arg-type]
