"""Late interaction on the CPU: blocks of classes of one length, each one GEMM and two maxima.

A block's scores lie as (n, L, V, b), the videos innermost: both maxima run over outer dimensions, where torch takes
whole vectors at a time. The full score tensor never exists.

B videos, V frames, C classes, P prompts of all classes, D width; in a block, n classes of L prompts and b videos.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .blocks import Block, blocks
from .problem import Problem


class _Sides(NamedTuple):
    """Both sides in the dtype of the arithmetic, absent frames cleared."""

    video_VBD: Tensor
    text_PD: Tensor
    absent_VB: Tensor | None
    frame_share_B: Tensor
    """What one frame adds to the scores of its video, per unit of similarity."""
    prompt_share_C: Tensor
    """What one prompt adds to the scores of its class, per unit of similarity."""


def forward(problem: Problem, save: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (B, C) and, where `save` asks for them, best prompts (C, V, B) and best frames (P, B) as int16."""
    B, V, C, P, _ = problem.sizes
    sides = _sides(problem)
    use = [weight != 0 for weight in problem.weights]
    scores_CB = sides.video_VBD.new_zeros(C, B)
    prompt_CVB = torch.empty((C, V, B) if save[0] else 0, dtype=torch.int16)
    frame_PB = torch.empty((P, B) if save[1] else 0, dtype=torch.int16)
    for block in blocks(problem.offsets, problem.order, V, B):
        scores_nLVb = (block.prompts.take(sides.text_PD) @ _frames(sides, block).T).view(block.shape)
        absent_Vb = None if sides.absent_VB is None else block.videos(sides.absent_VB)
        if use[0] or save[0]:
            best_nVb, prompt_nVb = _maxima(scores_nLVb, 1, save[0], absent_Vb)
            if use[0]:
                total_nb = best_nVb.sum(1).mul_(block.videos(sides.frame_share_B))
                block.classes.add(block.videos(scores_CB), total_nb)
            if prompt_nVb is not None:
                block.classes.put(block.videos(prompt_CVB), prompt_nVb)
        if use[1] or save[1]:
            if absent_Vb is not None:
                scores_nLVb.masked_fill_(absent_Vb, -torch.inf)
            best_nLb, frame_nLb = _maxima(scores_nLVb, 2, save[1], None if absent_Vb is None else absent_Vb.all(0))
            if use[1]:
                total_nb = best_nLb.sum(1).mul_(block.classes.take(sides.prompt_share_C)[:, None])
                block.classes.add(block.videos(scores_CB), total_nb)
            if frame_nLb is not None:
                block.prompts.put(block.videos(frame_PB), frame_nLb.flatten(0, 1))
    return scores_CB.T.contiguous(), prompt_CVB, frame_PB


def backward(
    problem: Problem, grad_BC: Tensor, prompt_CVB: Tensor, frame_PB: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor]:
    """Gradients of `video_BVD` and `text_PD`, each where `wanted` (else empty), from the saved indices."""
    B, V, *_ = problem.sizes
    sides = _sides(problem)
    grad_CB = grad_BC.T.contiguous()
    grad_video_VBD = torch.zeros_like(sides.video_VBD) if wanted[0] else grad_CB.new_empty(0)
    grad_text_PD = torch.zeros_like(sides.text_PD) if wanted[1] else grad_CB.new_empty(0)
    for block in blocks(problem.offsets, problem.order, V, B):
        n, L, _, b = block.shape
        pull = _pull(problem, sides, block, grad_CB, prompt_CVB, frame_PB).view(n * L, V * b)
        if wanted[0]:
            grad_video_VbD, text_nLD = block.videos(grad_video_VBD, 1), block.prompts.take(sides.text_PD)
            if b == B:  # the product needs no memory of its own
                grad_video_VbD.view(V * B, -1).addmm_(pull.T, text_nLD)
            else:
                grad_video_VbD.add_((pull.T @ text_nLD).view(V, b, -1))
        if wanted[1]:
            block.prompts.add_product(grad_text_PD, pull, _frames(sides, block))
        del pull  # before the next one is made
    if wanted[0]:
        if sides.absent_VB is not None:
            grad_video_VBD.masked_fill_(sides.absent_VB[:, :, None], 0)
        grad_video_VBD = grad_video_VBD.transpose(0, 1).contiguous()
    return grad_video_VBD.to(problem.video_BVD.dtype), grad_text_PD.to(problem.text_PD.dtype)


def _pull(
    problem: Problem, sides: _Sides, block: Block, grad_CB: Tensor, prompt_CVB: Tensor, frame_PB: Tensor
) -> Tensor:
    """The gradient of a block's similarities (n, L, V, b): zero but at the saved maxima.

    Absent frames have index -1. What falls to them here meets a cleared row of the video, and their own gradient is
    cleared at the end.
    """
    n, L, _, b = block.shape
    grad_nb = block.classes.take(block.videos(grad_CB))
    pull_nLVb = grad_CB.new_zeros(block.shape)
    if problem.weights[0] != 0:
        prompt_nVb = block.classes.take(block.videos(prompt_CVB)).long().clamp_(min=0)
        share_n1b = (grad_nb * block.videos(sides.frame_share_B))[:, None]
        pull_nLVb.scatter_(1, prompt_nVb[:, None], share_n1b.expand_as(prompt_nVb)[:, None])
    if problem.weights[1] != 0:
        frame_nLb = block.prompts.take(block.videos(frame_PB)).long().clamp_(min=0).view(n, L, b)
        share_n1b = (grad_nb * block.classes.take(sides.prompt_share_C)[:, None])[:, None]
        # Each (prompt, class, video) adds to one frame only, so no two of these additions meet.
        pull_nLVb.scatter_add_(2, frame_nLb[:, :, None], share_n1b.expand_as(frame_nLb)[:, :, None])
    return pull_nLVb


def _sides(problem: Problem) -> _Sides:
    B, V, C, *_ = problem.sizes
    dtype = torch.float64 if problem.video_BVD.dtype == torch.float64 else torch.float32
    video_VBD = problem.video_BVD.transpose(0, 1).to(dtype).contiguous()
    frame_share_B = torch.full((B,), problem.weights[0], dtype=dtype)
    prompt_share_C = torch.full((C,), problem.weights[1], dtype=dtype)
    if problem.mean:
        frame_share_B /= V if problem.mask_BV is None else problem.mask_BV.sum(1).clamp(min=1)
        prompt_share_C /= problem.offsets.diff()
    absent_VB = None
    if problem.mask_BV is not None:
        absent_VB = ~problem.mask_BV.T.contiguous()
        video_VBD = video_VBD.masked_fill(absent_VB[:, :, None], 0)
    return _Sides(video_VBD, problem.text_PD.to(dtype), absent_VB, frame_share_B, prompt_share_C)


def _frames(sides: _Sides, block: Block) -> Tensor:
    return block.videos(sides.video_VBD, 1).flatten(0, 1)


def _maxima(scores: Tensor, dim: int, want_index: bool, absent: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Maxima over `dim` and the lowest index that reaches each; 0 and -1 where `absent`."""
    best = scores.amax(dim)
    index = None
    if want_index:
        index = _first(scores, best, dim).to(torch.int16)
        if absent is not None:
            index.masked_fill_(absent, -1)
    if absent is not None:
        best.masked_fill_(absent, 0)
    return best, index


def _first(scores: Tensor, best: Tensor, dim: int) -> Tensor:
    """The lowest index along `dim` where `scores` equals `best`, its maximum.

    torch.max finds it one element at a time; here it is whole vectors of arithmetic, four times as fast. The gap to
    the maximum, rounded down, is 0 where it is reached and at most -1 elsewhere, so the step below puts every other
    index behind all those that reach it. An infinite or undefined maximum has no gap: those are left to torch.max.
    """
    if not best.sum().isfinite():
        return scores.max(dim).indices
    shape = [1] * scores.dim()
    shape[dim] = -1
    step = torch.arange(scores.shape[dim], dtype=scores.dtype).view(shape)
    gap = torch.sub(scores, best.unsqueeze(dim)).floor_()
    return torch.add(step, gap, alpha=-(2**16)).amin(dim)
