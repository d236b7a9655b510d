"""Cross entropy over the samples that count."""

import pytest
import torch
from reelmill.train.losses import masked_cross_entropy
from torch.nn import functional


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_samples_that_do_not_count_change_nothing(smoothing):
    torch.manual_seed(0)
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([3, -1, 0, 6, 2])
    valid = torch.tensor([True, True, False, True, True])
    loss = masked_cross_entropy(logits, labels, valid, label_smoothing=smoothing)
    rows = [0, 3, 4]
    want = functional.cross_entropy(logits[rows], labels[rows], label_smoothing=smoothing)
    torch.testing.assert_close(loss, want)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[[1, 2]].abs().sum() == 0
    assert (logits.grad[rows].abs().sum(dim=1) > 0).all()


def test_a_batch_without_a_sample_that_counts_has_no_loss_and_no_gradient():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = masked_cross_entropy(logits, torch.tensor([-1, 2]), torch.tensor([True, False]), label_smoothing=0.1)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0
