"""The written-out gradients of the example's training against torch's own."""

from __future__ import annotations

import pytest
import torch

from tests.support import training_data  # noqa: F401  (finds the example)
from training.objective import Head, Teacher, lesson, teach


@pytest.mark.parametrize("alpha", [1.0, 0.3, 0.0])
def test_gradients_of_divergence_and_variation_are_torchs_own(alpha: float) -> None:
    torch.manual_seed(0)
    features, rows = torch.randn(5, 8, requires_grad=True), torch.randn(40, 8, requires_grad=True)
    logits = torch.randn(5, 60) * 2
    p = torch.softmax(logits, -1)[:, :40]
    likely = p.topk(40)
    found = lesson(features, Head(rows.detach()), Teacher(likely.indices, likely.values), alpha, learned=3)
    q = torch.softmax(features @ rows.T, -1)
    loss = -(p * q.log()).sum() * alpha + (1 - torch.minimum(p, q).sum(-1)).sum() * (1 - alpha)
    by_features, by_rows = torch.autograd.grad(loss, (features, rows))
    torch.testing.assert_close(found.gradient, by_features)
    torch.testing.assert_close(found.row_gradient, by_rows[:, -3:])
    torch.testing.assert_close(found.accept, torch.minimum(p, q).sum(-1))


def test_a_teacher_holds_probabilities_over_the_whole_vocabulary() -> None:
    torch.manual_seed(0)
    last, head = torch.randn(3, 8), torch.randn(70, 8)
    logits = last @ head.T
    found = teach(last, torch.logsumexp(logits, -1), head[:50])
    p = torch.softmax(logits, -1)[:, :50]
    assert found.places[:, 0].tolist() == p.argmax(-1).tolist()
    torch.testing.assert_close(found.p, p.gather(1, found.places))
