"""Losses that leave out what must not teach. Shapes: B videos, C classes."""

from torch import Tensor
from torch.nn import functional


def masked_cross_entropy(logits_BC: Tensor, labels_B: Tensor, valid_B: Tensor, *, label_smoothing: float) -> Tensor:
    """Cross entropy averaged over the samples that count.

    Args:
        logits_BC: (B, C) fp32 or fp64.
        labels_B: (B,) int64, the class index; -1 where there is none, and the sample does not count.
        valid_B: (B,) bool; False where the pixels are not the sample's own, and the sample does not count.
        label_smoothing: share of the target that is spread evenly over all C classes, in [0, 1).

    Returns:
        0-d; 0 with a gradient of 0 where no sample counts.
    """
    counts_B = valid_B & (labels_B >= 0)
    targets_B = labels_B.masked_fill(~counts_B, -100)
    total = functional.cross_entropy(
        logits_BC, targets_B, label_smoothing=label_smoothing, ignore_index=-100, reduction="sum"
    )
    return total / counts_B.sum().clamp(min=1)
