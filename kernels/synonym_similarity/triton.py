"""Synonym classes on Triton. What is launched is planned in means_plan, product_plan and loss_plan.

B videos, C classes, G groups of negatives, P rows of text of all classes, D width; in a block, b videos.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..launch import architecture
from .loss_plan import Pulls, plan_cross_entropy, plan_group_sums, plan_pull, plan_video_gradient
from .means_plan import plan_lengths, plan_means, plan_spread
from .problem import Gradients, Kept, Problem, Upstream
from .product_plan import plan_gradient, plan_scores

PULL_ELEMENTS = 1 << 22
"""Most gradients of scores that are in memory at a time (16 MB), unless one video has more."""


def means(text_PD: Tensor, offsets: Tensor, owners: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """The mean of the rows of each class (C, D), and 1 / length of each row (P,), which is 1 if not normalised."""
    launch, means_CD, inverse_P = plan_means(text_PD, offsets, normalize)
    launch.run()
    return means_CD, inverse_P


def means_backward(
    grad_CD: Tensor, text_PD: Tensor, offsets: Tensor, owners: Tensor, inverse_P: Tensor, normalize: bool
) -> Tensor:
    """(P, D) in the dtype of the text: each row's share of the gradient of its class."""
    launch, grad_PD = plan_spread(grad_CD, text_PD, offsets, owners, inverse_P, normalize)
    launch.run()
    return grad_PD


def similarity(video_BD: Tensor, means_CD: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """Products of the videos and the classes (B, C), and 1 / length of each video (B,)."""
    inverse_B = _inverse_lengths(video_BD, normalize)
    launch, scores_BC = plan_scores(video_BD, means_CD, inverse_B, architecture(video_BD.device))
    if len(video_BD):
        launch.run()
    return scores_BC, inverse_B


def similarity_backward(
    video_BD: Tensor, means_CD: Tensor, inverse_B: Tensor, grad_BC: Tensor, wanted: Sequence[bool], normalize: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of the videos and the classes, each where `wanted` (else empty)."""
    grad_video_BD, grad_means_CD = video_BD.new_empty(0), means_CD.new_empty(0)
    if wanted[0]:
        pull_BD = _product(grad_BC, means_CD, None, video_BD.dtype)
        launch, grad_video_BD = plan_video_gradient(video_BD, pull_BD, inverse_B, inverse_B, None, normalize)
        if len(video_BD):
            launch.run()
    if wanted[1]:
        grad_means_CD = _product(grad_BC.T, video_BD, inverse_B, video_BD.dtype)
    return grad_video_BD, grad_means_CD


def cross_entropy(problem: Problem) -> tuple[Tensor, Tensor, Kept]:
    """Losses (B,), logarithms of the sums of exponentials (B,), and what the backward needs."""
    inverse_B = _inverse_lengths(problem.video_BD, problem.normalize)
    launches, (loss_B, lse_B), kept = plan_cross_entropy(problem, inverse_B, architecture(inverse_B.device))
    if len(inverse_B):
        for launch in launches:
            launch.run()
    return loss_B, lse_B, kept


def cross_entropy_backward(problem: Problem, kept: Kept, upstream: Upstream, wanted: Sequence[bool]) -> Gradients:
    """Gradients of the videos, the classes, the scale and the negatives, each where `wanted` (else empty)."""
    B, C, _ = problem.sizes
    video_BD, means_CD = problem.video_BD, problem.means_CD
    rows = max(1, min(B, PULL_ELEMENTS // C))
    arch = architecture(video_BD.device)
    pulls = Pulls.empty(problem, rows, arch)
    pull_blocks = []
    grad_means_CD = torch.zeros_like(means_CD) if wanted[1] else means_CD.new_empty(0)
    for first in range(0, B, rows):
        block = slice(first, min(B, first + rows))
        plan_pull(problem, kept, upstream, pulls, block, arch).run()
        pull_bC = pulls.pull_bC[: block.stop - first]
        if wanted[0]:
            pull_blocks.append(_product(pull_bC, means_CD, None, video_BD.dtype))
        if wanted[1]:
            grad_means_CD += _product(pull_bC.T, video_BD[block], pulls.factor_B[block], video_BD.dtype)

    grad_video_BD, grad_scale = video_BD.new_empty(0), problem.scale.new_empty(0)
    if wanted[0]:
        grad_video_BD = _end_video_gradient(problem, kept, pulls, pull_blocks)
    if wanted[2]:
        grad_scale = (pulls.scale_parts_XB.sum() if B else means_CD.new_zeros(())).to(problem.scale.dtype)
    grad_negatives_GD = means_CD.new_empty(0)
    if wanted[3]:
        launch, grad_negatives_GD = plan_group_sums(problem, pulls)
        launch.run()
    return Gradients(grad_video_BD, grad_means_CD, grad_scale, grad_negatives_GD)


def _end_video_gradient(problem: Problem, kept: Kept, pulls: Pulls, pull_blocks: list[Tensor]) -> Tensor:
    if not pull_blocks:
        return torch.zeros_like(problem.video_BD)
    pull_BD = pull_blocks[0] if len(pull_blocks) == 1 else torch.cat(pull_blocks)
    own = None
    if problem.negatives_GD is not None:
        assert pulls.own_pull_B is not None
        own = problem.negatives_GD, problem.negative_B, pulls.own_pull_B
    launch, grad_video_BD = plan_video_gradient(
        problem.video_BD, pull_BD, pulls.factor_B, kept.inverse_B, own, problem.normalize
    )
    launch.run()
    return grad_video_BD


def _inverse_lengths(video_BD: Tensor, normalize: bool) -> Tensor:
    if not normalize or not len(video_BD):
        return video_BD.new_ones(len(video_BD), dtype=torch.float32)
    launch, inverse_B = plan_lengths(video_BD)
    launch.run()
    return inverse_B


def _product(pull_MK: Tensor, x_KD: Tensor, weight_K: Tensor | None, dtype: torch.dtype) -> Tensor:
    """(M, D): pull . (weight * x), to the digits that a gradient of `dtype` has."""
    if not pull_MK.numel():
        return pull_MK.new_zeros((len(pull_MK), x_KD.shape[1]))
    launch, parts = plan_gradient(pull_MK, x_KD, weight_K, dtype, architecture(x_KD.device))
    launch.run()
    return parts[0] if len(parts) == 1 else parts.sum(0)
