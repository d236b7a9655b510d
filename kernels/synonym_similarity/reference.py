"""Synonym classes in plain PyTorch: the oracle of the other implementations.

It holds all scores, and differentiates by autograd, twice if need be.

B videos, C classes, G groups of negatives, P rows of text (synonyms) of all classes, D width.
"""

import torch
from torch import Tensor


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums, scores and losses: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def inverse_lengths(square: Tensor) -> Tensor:
    """1 / length from squared lengths: 0 for 0, NaN for what is not finite."""
    known = (square > 0) & square.isfinite()
    inverse = torch.where(known, square, 1).rsqrt()  # the 1 keeps the gradient of what is not used finite
    return inverse.masked_fill(~known, torch.nan).masked_fill(square == 0, 0)


def unit_rows(rows: Tensor) -> Tensor:
    """Rows of length 1, wide; a row of length 0 stays 0 and has no gradient, one without a finite length is NaN."""
    rows = rows.to(wide(rows.dtype))
    return rows * inverse_lengths(rows.square().sum(1, keepdim=True))


def means_reference(text_PD: Tensor, offsets: Tensor, owners: Tensor, normalize: bool) -> Tensor:
    """(C, D), wide: the mean of the rows of each class, each made a unit row before if `normalize`."""
    rows_PD = unit_rows(text_PD) if normalize else text_PD.to(wide(text_PD.dtype))
    length_C = offsets.diff()
    sums_CD = rows_PD.new_zeros(len(length_C), rows_PD.shape[1]).index_add(0, owners, rows_PD)
    return sums_CD / length_C[:, None]


def similarity_reference(video_BD: Tensor, means_CD: Tensor, normalize: bool) -> Tensor:
    """(B, C), wide: the product of each video, made a unit row before if `normalize`, and each class."""
    rows_BD = unit_rows(video_BD) if normalize else video_BD.to(wide(video_BD.dtype))
    return rows_BD @ means_CD.T


def cross_entropy_reference(
    video_BD: Tensor,
    means_CD: Tensor,
    scale: Tensor,
    target_B: Tensor,
    negatives_GD: Tensor | None,
    negative_B: Tensor | None,
    label_smoothing: float,
    ignore_index: int,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    """The loss (B,) and the logarithm of the sum of exponentials (B,) of each sample; see the op."""
    scale = scale.to(means_CD.dtype)

    def scores(rows_BD: Tensor) -> tuple[Tensor, Tensor]:
        score_BC = scale * similarity_reference(rows_BD, means_CD, normalize)
        if negatives_GD is None:
            return score_BC, score_BC.logsumexp(1)
        group_B = torch.arange(len(rows_BD), device=rows_BD.device) if negative_B is None else negative_B
        chosen_BD = negatives_GD[group_B.clamp(min=0)].masked_fill((group_B < 0)[:, None], 0)
        rows_BD = unit_rows(rows_BD) if normalize else rows_BD.to(wide(rows_BD.dtype))
        own_B = (scale * (rows_BD * chosen_BD).sum(1)).masked_fill(group_B < 0, -torch.inf)
        return score_BC, torch.cat([score_BC, own_B[:, None]], 1).logsumexp(1)

    ignored_B = target_B == ignore_index
    # Cleared and not only left out: a NaN times a gradient of 0 would still be a NaN.
    score_BC, lse_B = scores(video_BD.masked_fill(ignored_B[:, None], 0))
    target_score_B = score_BC.gather(1, target_B.masked_fill(ignored_B, 0)[:, None]).squeeze(1)
    loss_B = lse_B - (1 - label_smoothing) * target_score_B
    if label_smoothing:
        loss_B = loss_B - label_smoothing * score_BC.mean(1)
    return loss_B.masked_fill(ignored_B, 0), scores(video_BD)[1]
