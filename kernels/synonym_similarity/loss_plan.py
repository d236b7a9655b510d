"""What is launched for the loss and its gradient: the kernels are in loss_kernel.

B videos, C classes, G groups of negatives, D width; in a block, b videos.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..launch import Launch
from .loss_kernel import combine_kernel, pull_kernel, statistics_kernel, video_gradient_kernel
from .means_plan import plan_collect, row_tile
from .problem import Kept, Problem, Upstream
from .tiles import PROGRAMS, SCORES, bits, ceil


@dataclass(frozen=True)
class Pulls:
    """What `pull_kernel` fills, for a block of videos and for all of them."""

    pull_bC: Tensor
    factor_B: Tensor
    own_pull_B: Tensor | None
    scale_parts_XB: Tensor

    @classmethod
    def empty(cls, problem: Problem, rows: int, arch: int) -> "Pulls":
        """Room for blocks of so many videos."""
        B, C, _ = problem.sizes
        new_empty = problem.means_CD.new_empty
        parts = ceil(C, SCORES[arch, bits(problem.video_BD.dtype)].columns) + 1
        own_pull_B = None if problem.negatives_GD is None else new_empty(B)
        return cls(new_empty((rows, C)), new_empty(B), own_pull_B, new_empty((parts, B)))


def plan_cross_entropy(
    problem: Problem, inverse_B: Tensor, arch: int
) -> tuple[list[Launch], tuple[Tensor, Tensor], Kept]:
    """The launches of the loss, in their order; what they fill: losses and logarithms, and what the backward needs."""
    B, C, D = problem.sizes
    tiles = SCORES[arch, bits(problem.video_BD.dtype)]
    steps = ceil(C, tiles.columns)
    splits = min(ceil(PROGRAMS, max(1, ceil(B, tiles.rows))), steps)
    new_empty = problem.means_CD.new_empty
    parts_4SB, loss_B, lse_B = new_empty((4, splits, B)), new_empty(B), new_empty(B)
    kept = Kept(inverse_B, new_empty(0 if problem.negatives_GD is None else B), new_empty(B), new_empty(B))
    shared = {
        "video_ptr": problem.video_BD.contiguous(),
        "scale_ptr": problem.scale.float(),
        "inverse_ptr": inverse_B,
        "target_ptr": problem.target_B.contiguous(),
        "parts_ptr": parts_4SB,
        "B": B,
        "C": C,
        "D": D,
        "splits": splits,
    }
    statistics = Launch(
        kernel=statistics_kernel,
        grid=(ceil(B, tiles.rows), splits),
        arguments={
            **shared,
            "means_ptr": problem.means_CD.contiguous(),
            "per_split": ceil(steps, splits) * tiles.columns,
        },
        constants={"ROWS": tiles.rows, "CLASSES": tiles.columns, "BLOCK_D": tiles.depth},
        warps=tiles.warps,
        stages=tiles.stages,
    )
    width, rows = row_tile(D)
    combine = Launch(
        kernel=combine_kernel,
        grid=(ceil(B, rows),),
        arguments={
            **shared,
            **_negatives(problem.negatives_GD, problem.negative_B),
            "loss_ptr": loss_B,
            "lse_ptr": lse_B,
            "own_ptr": kept.own_B,
            "top_ptr": kept.top_B,
            "sum_ptr": kept.sum_B,
            "ignore": problem.ignore_index,
            "smoothing": problem.label_smoothing,
        },
        constants={"ROWS": rows, "BLOCK_D": width},
        warps=4,
        stages=1,
        products=False,
    )
    return [statistics, combine], (loss_B, lse_B), kept


def plan_pull(problem: Problem, kept: Kept, upstream: Upstream, pulls: Pulls, block: slice, arch: int) -> Launch:
    """The launch that makes the gradients of the scores of a block of videos."""
    B, C, D = problem.sizes
    tiles = SCORES[arch, bits(problem.video_BD.dtype)]
    own_B = None if problem.negatives_GD is None else kept.own_B
    return Launch(
        kernel=pull_kernel,
        grid=(ceil(block.stop - block.start, tiles.rows), ceil(C, tiles.columns)),
        arguments={
            "video_ptr": problem.video_BD.contiguous(),
            "means_ptr": problem.means_CD.contiguous(),
            "scale_ptr": problem.scale.float(),
            "inverse_ptr": kept.inverse_B,
            "target_ptr": problem.target_B.contiguous(),
            "top_ptr": kept.top_B,
            "sum_ptr": kept.sum_B,
            "own_ptr": own_B,
            "group_ptr": None if problem.negative_B is None else problem.negative_B.contiguous(),
            "grad_loss_ptr": upstream.loss_B.contiguous(),
            "grad_lse_ptr": upstream.lse_B.contiguous(),
            "pull_ptr": pulls.pull_bC,
            "factor_ptr": pulls.factor_B,
            "own_pull_ptr": pulls.own_pull_B,
            "scale_parts_ptr": pulls.scale_parts_XB,
            "first": block.start,
            "end": block.stop,
            "B": B,
            "C": C,
            "D": D,
            "ignore": problem.ignore_index,
            "smoothing": problem.label_smoothing,
        },
        constants={"ROWS": tiles.rows, "CLASSES": tiles.columns, "BLOCK_D": tiles.depth},
        warps=tiles.warps,
        stages=tiles.stages,
    )


def plan_video_gradient(
    video_BD: Tensor,
    pull_BD: Tensor,
    factor_B: Tensor,
    inverse_B: Tensor,
    own: tuple[Tensor, Tensor | None, Tensor] | None,
    normalize: bool,
) -> tuple[Launch, Tensor]:
    """The launch that ends the gradient of the videos, and the gradient (B, D) that it fills.

    With `own`: negatives, their groups, and what they pull.
    """
    negatives_GD, negative_B, own_pull_B = own or (None, None, None)
    B, D = video_BD.shape
    width, rows = row_tile(D)
    grad_BD = video_BD.new_empty((B, D))
    launch = Launch(
        kernel=video_gradient_kernel,
        grid=(ceil(B, rows),),
        arguments={
            "pull_ptr": pull_BD,
            "video_ptr": video_BD.contiguous(),
            **_negatives(negatives_GD, negative_B),
            "own_pull_ptr": own_pull_B,
            "factor_ptr": factor_B,
            "inverse_ptr": inverse_B,
            "out_ptr": grad_BD,
            "B": B,
            "D": D,
        },
        constants={"NORMALIZE": normalize, "ROWS": rows, "BLOCK_D": width},
        warps=4,
        stages=1,
        products=False,
    )
    return launch, grad_BD


def plan_group_sums(problem: Problem, pulls: Pulls) -> tuple[Launch, Tensor]:
    """The launch that adds up the videos of each group of negatives, and the gradient (G, D) that it fills."""
    assert problem.negatives_GD is not None
    assert pulls.own_pull_B is not None
    grad_GD = torch.empty_like(problem.negatives_GD)
    G, device = len(grad_GD), grad_GD.device
    order = None
    offsets = torch.arange(G + 1, device=device)
    if problem.negative_B is not None:
        group_B, order = problem.negative_B.sort(stable=True)
        offsets = torch.searchsorted(group_B, offsets)
    weight_B = pulls.own_pull_B * pulls.factor_B
    return plan_collect(problem.video_BD, order, offsets, weight_B, None, grad_GD, False), grad_GD


def _negatives(negatives_GD: Tensor | None, negative_B: Tensor | None) -> dict[str, Any]:
    return {
        "negatives_ptr": negatives_GD,
        "group_ptr": None if negative_B is None else negative_B.contiguous(),
        "G": 0 if negatives_GD is None else len(negatives_GD),
    }
