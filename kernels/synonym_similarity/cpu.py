"""Synonym classes on the CPU: text in blocks of classes, scores in blocks of videos.

Unit rows never exist: a class is a sum of its rows with weights, which is one pass over the text.

B videos, C classes, G groups of negatives, P rows of text of all classes, D width; in a block, b videos or p rows.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from .problem import Gradients, Kept, Problem, Upstream
from .reference import wide

BLOCK_ELEMENTS = 1 << 19
"""Most scores, and most elements of text, that a block works on, unless one video or one class has more."""


def means(text_PD: Tensor, offsets: Tensor, owners: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """The mean of the rows of each class (C, D), wide, and 1 / length of each row (P,), 1 if not normalised."""
    P, D = text_PD.shape
    dtype = wide(text_PD.dtype)
    share_C = offsets.diff().to(dtype).reciprocal_()
    means_CD = torch.empty((len(share_C), D), dtype=dtype)
    inverse_P = torch.empty(P, dtype=dtype)
    firsts = offsets.tolist()
    for c, c_end in _class_blocks(firsts, D):
        p, p_end = firsts[c], firsts[c_end]
        rows_pD = text_PD[p:p_end].to(dtype).contiguous()
        inverse_P[p:p_end] = _inverse(rows_pD, normalize)
        weight_p = share_C.index_select(0, owners[p:p_end]).mul_(inverse_P[p:p_end])
        means_CD[c:c_end] = _sums(rows_pD, torch.arange(p_end - p), offsets[c : c_end + 1] - p, weight_p)
    return means_CD, inverse_P


def means_backward(
    grad_CD: Tensor, text_PD: Tensor, offsets: Tensor, owners: Tensor, inverse_P: Tensor, normalize: bool
) -> Tensor:
    """(P, D) in the dtype of the text: each row's share of the gradient of its class."""
    P, D = text_PD.shape
    grad_PD = torch.empty((P, D), dtype=text_PD.dtype)
    share_C = offsets.diff().to(grad_CD.dtype).reciprocal_()
    step, in_place = max(1, BLOCK_ELEMENTS // D), grad_PD.dtype == grad_CD.dtype
    for p in range(0, P, step):
        part = slice(p, p + step)
        weight_p = share_C.index_select(0, owners[part]).mul_(inverse_P[part])
        # Written in place where no dtype stands between: one pass over the memory less.
        grad_pD = torch.index_select(grad_CD, 0, owners[part], out=grad_PD[part] if in_place else None)
        grad_pD.mul_(weight_p[:, None])
        if normalize:
            _remove_along(grad_pD, text_PD[part].to(grad_CD.dtype), inverse_P[part])
        if not in_place:
            grad_PD[part] = grad_pD
    return grad_PD


def similarity(video_BD: Tensor, means_CD: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """Products of the videos and the classes (B, C), wide, and 1 / length of each video (B,)."""
    rows_BD = video_BD.to(means_CD.dtype)
    inverse_B = _inverse(rows_BD, normalize, torch.float64)
    return (rows_BD @ means_CD.T).mul_(inverse_B[:, None]), inverse_B


def similarity_backward(
    video_BD: Tensor, means_CD: Tensor, inverse_B: Tensor, grad_BC: Tensor, wanted: Sequence[bool], normalize: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of the videos and the classes, each where `wanted` (else empty)."""
    rows_BD = video_BD.to(means_CD.dtype)
    grad_video_BD, grad_means_CD = video_BD.new_empty(0), means_CD.new_empty(0)
    if wanted[0]:
        pull_BD = (grad_BC @ means_CD).mul_(inverse_B[:, None])
        if normalize:
            _remove_along(pull_BD, rows_BD, inverse_B)
        grad_video_BD = pull_BD.to(video_BD.dtype)
    if wanted[1]:
        grad_means_CD = grad_BC.T @ (rows_BD * inverse_B[:, None])
    return grad_video_BD, grad_means_CD


def cross_entropy(problem: Problem) -> tuple[Tensor, Tensor, Kept]:
    """Losses (B,), logarithms of the sums of exponentials (B,), and what the backward needs."""
    B, C, _ = problem.sizes
    _check_indices(problem)
    rows_BD = problem.video_BD.to(problem.means_CD.dtype)
    scale = problem.scale.to(rows_BD.dtype)
    inverse_B = _inverse(rows_BD, problem.normalize, torch.float64)
    factor_B = inverse_B * scale
    own_B = _own_similarity(problem, rows_BD, inverse_B)
    own_score_B = _own_scores(problem, own_B, scale)
    loss_B, top_B, sum_B = (torch.empty_like(inverse_B) for _ in range(3))
    ignored_B = problem.target_B == problem.ignore_index
    target_B1 = problem.target_B.masked_fill(ignored_B, 0)[:, None]
    for block in _video_blocks(B, C):
        score_bC = (rows_BD[block] @ problem.means_CD.T).mul_(factor_B[block, None])
        loss_b = score_bC.gather(1, target_B1[block]).squeeze(1).mul_(problem.label_smoothing - 1)
        if problem.label_smoothing:
            loss_b -= score_bC.mean(1).mul_(problem.label_smoothing)
        top_b = score_bC.amax(1)
        if own_score_B is not None:
            top_b = torch.maximum(top_b, own_score_B[block])
        sum_b = score_bC.sub_(top_b[:, None]).exp_().sum(1)
        if own_score_B is not None:
            sum_b += (own_score_B[block] - top_b).exp_()
        loss_B[block], top_B[block], sum_B[block] = loss_b.add_(top_b), top_b, sum_b
    log_B = sum_B.log()
    return loss_B.add_(log_B).masked_fill_(ignored_B, 0), log_B.add_(top_B), Kept(inverse_B, own_B, top_B, sum_B)


class _Pulls(NamedTuple):
    """What pulls on the samples. Those that nothing pulls on are cleared: 0 times a NaN of theirs would be one."""

    rows_BD: Tensor
    inverse_B: Tensor
    own_B: Tensor
    top_B: Tensor
    scale: Tensor
    target_B1: Tensor
    loss_B1: Tensor
    """Gradient of the loss."""
    share_B1: Tensor
    """Gradient of the logarithm of the sum of exponentials, that of the loss included, by that sum."""


def cross_entropy_backward(problem: Problem, kept: Kept, upstream: Upstream, wanted: Sequence[bool]) -> Gradients:
    """Gradients of the videos, the classes, the scale and the negatives, each where `wanted` (else empty)."""
    pulls = _pulls(problem, kept, upstream)
    pull_BD, grad_means_CD = _class_gradients(problem, pulls, wanted[0] or wanted[2], wanted[1])
    grad_negatives_GD = pull_BD.new_empty(0)
    own_score_B = _own_scores(problem, pulls.own_B, pulls.scale)
    if own_score_B is not None:
        own_pull_B = (own_score_B - pulls.top_B).exp_().mul_(pulls.share_B1[:, 0])
        if len(pull_BD):
            pull_BD.addcmul_(_chosen(problem), own_pull_B[:, None])
        if wanted[3]:
            grad_negatives_GD = _group_sums(problem, pulls.rows_BD, own_pull_B * pulls.inverse_B * pulls.scale)
    grad_scale = problem.scale.new_empty(0)
    if wanted[2]:
        grad_scale = (pulls.rows_BD * pull_BD).sum(1).mul_(pulls.inverse_B).sum().to(problem.scale.dtype)
    grad_video_BD = problem.video_BD.new_empty(0)
    if wanted[0]:
        pull_BD *= (pulls.inverse_B * pulls.scale)[:, None]
        if problem.normalize:
            _remove_along(pull_BD, pulls.rows_BD, pulls.inverse_B)
        grad_video_BD = pull_BD.to(problem.video_BD.dtype)
    return Gradients(grad_video_BD, grad_means_CD, grad_scale, grad_negatives_GD)


def _pulls(problem: Problem, kept: Kept, upstream: Upstream) -> _Pulls:
    rows_BD = problem.video_BD.to(problem.means_CD.dtype)
    inverse_B, own_B, top_B, sum_B = kept
    ignored_B = problem.target_B == problem.ignore_index
    loss_B = upstream.loss_B.masked_fill(ignored_B, 0)
    share_B = (loss_B + upstream.lse_B).div_(sum_B)
    idle_B = (loss_B == 0) & (upstream.lse_B == 0)
    if idle_B.any():
        rows_BD, inverse_B = rows_BD.masked_fill(idle_B[:, None], 0), inverse_B.masked_fill(idle_B, 0)
        top_B, share_B = top_B.masked_fill(idle_B, torch.inf), share_B.masked_fill_(idle_B, 0)
        own_B = own_B if problem.negatives_GD is None else own_B.masked_fill(idle_B, 0)
    target_B1 = problem.target_B.masked_fill(ignored_B, 0)[:, None]
    scale = problem.scale.to(rows_BD.dtype)
    return _Pulls(rows_BD, inverse_B, own_B, top_B, scale, target_B1, loss_B[:, None], share_B[:, None])


def _class_gradients(problem: Problem, pulls: _Pulls, of_videos: bool, of_classes: bool) -> tuple[Tensor, Tensor]:
    """What the classes pull each unit video to (B, D), before the scale, and the gradient of the classes (C, D)."""
    B, C, _ = problem.sizes
    rows_BD, means_CD = pulls.rows_BD, problem.means_CD
    pull_BD = torch.empty_like(rows_BD, memory_format=torch.contiguous_format) if of_videos else rows_BD.new_empty(0)
    grad_means_CD = torch.zeros_like(means_CD) if of_classes else rows_BD.new_empty(0)
    if not (of_videos or of_classes):
        return pull_BD, grad_means_CD
    factor_B1 = (pulls.inverse_B * pulls.scale)[:, None]
    for block in _video_blocks(B, C):
        score_bC = (rows_BD[block] @ means_CD.T).mul_(factor_B1[block])
        pull_bC = score_bC.sub_(pulls.top_B[block, None]).exp_().mul_(pulls.share_B1[block])
        loss_b1 = pulls.loss_B1[block]
        if problem.label_smoothing:
            pull_bC.sub_(loss_b1, alpha=problem.label_smoothing / C)
        pull_bC.scatter_add_(1, pulls.target_B1[block], loss_b1 * (problem.label_smoothing - 1))
        if of_videos:
            torch.mm(pull_bC, means_CD, out=pull_BD[block])
        if of_classes:
            grad_means_CD.addmm_(pull_bC.T, rows_BD[block] * factor_B1[block])
    return pull_BD, grad_means_CD


def _own_similarity(problem: Problem, rows_BD: Tensor, inverse_B: Tensor) -> Tensor:
    """(B,) the product of each unit video and its negative; empty without negatives."""
    if problem.negatives_GD is None:
        return rows_BD.new_empty(0)
    return (rows_BD * _chosen(problem)).sum(1).mul_(inverse_B)


def _own_scores(problem: Problem, own_B: Tensor, scale: Tensor) -> Tensor | None:
    """(B,) the scores of the negatives, -inf for none; None without negatives."""
    if problem.negatives_GD is None:
        return None
    score_B = own_B * scale
    return score_B if problem.negative_B is None else score_B.masked_fill_(problem.negative_B < 0, -torch.inf)


def _chosen(problem: Problem) -> Tensor:
    """(B, D) the negative of each video, 0 for none."""
    assert problem.negatives_GD is not None
    if problem.negative_B is None:
        return problem.negatives_GD
    chosen_BD = problem.negatives_GD.index_select(0, problem.negative_B.clamp(min=0))
    return chosen_BD.masked_fill_((problem.negative_B < 0)[:, None], 0)


def _group_sums(problem: Problem, rows_BD: Tensor, weight_B: Tensor) -> Tensor:
    """(G, D): the sum of the videos that have the group as their negative, with weights, in the order of the videos."""
    if problem.negative_B is None:
        return rows_BD * weight_B[:, None]
    assert problem.negatives_GD is not None
    group_B, order_B = problem.negative_B.sort(stable=True)
    offsets = torch.searchsorted(group_B, torch.arange(len(problem.negatives_GD) + 1))
    order_b = order_B[offsets[0] :]
    return _sums(rows_BD, order_b, offsets - offsets[0], weight_B[order_b])


def _sums(rows: Tensor, index: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """Sums of the indexed rows with weights, between each two offsets; those of a segment are added in order."""
    sums: Tensor = embedding_bag(index, rows, offsets, mode="sum", per_sample_weights=weight, include_last_offset=True)
    return sums


def _inverse(rows: Tensor, normalize: bool, dtype: torch.dtype | None = None) -> Tensor:
    """1 / length of each row, found in `dtype`, 0 for length 0; 1 if not normalised."""
    if not normalize:
        return rows.new_ones(len(rows))
    length = torch.linalg.vector_norm(rows, dim=1, dtype=dtype)
    square = length.to(rows.dtype).square()  # 0 or not finite as for those who find the length by its square
    inverse: Tensor = length.reciprocal_().masked_fill_(square == 0, 0).masked_fill_(~square.isfinite(), torch.nan)
    return inverse.to(rows.dtype)


def _remove_along(grad: Tensor, rows: Tensor, inverse: Tensor) -> None:
    """Take from gradients, in place, what points along their rows: it changes the length that is divided out."""
    along = (rows * grad).sum(1).mul_(inverse).mul_(inverse)
    grad.addcmul_(rows, along[:, None], value=-1)


def _class_blocks(firsts: list[int], width: int) -> Iterator[tuple[int, int]]:
    """First class and end of blocks of whole classes."""
    most, c = max(1, BLOCK_ELEMENTS // width), 0
    while c < len(firsts) - 1:
        c_end = max(c + 1, bisect_right(firsts, firsts[c] + most) - 1)
        yield c, c_end
        c = c_end


def _video_blocks(B: int, C: int) -> Iterator[slice]:
    step = max(1, BLOCK_ELEMENTS // C)
    for start in range(0, B, step):
        yield slice(start, min(B, start + step))


def _check_indices(problem: Problem) -> None:
    C = len(problem.means_CD)
    target_B = problem.target_B
    wrong_B = ((target_B < 0) | (target_B >= C)) & (target_B != problem.ignore_index)
    if wrong_B.any():
        first = int(target_B[wrong_B][0])
        raise ValueError(f"target_B must be in 0 .. {C - 1} or {problem.ignore_index} (ignore_index), got {first}")
    if problem.negative_B is None or problem.negatives_GD is None:
        return
    G, negative_B = len(problem.negatives_GD), problem.negative_B
    wrong_B = (negative_B < -1) | (negative_B >= G)
    if wrong_B.any():
        first = int(negative_B[wrong_B][0])
        raise ValueError(f"negative_B must be in 0 .. {G - 1} or -1 (none), got {first}")
