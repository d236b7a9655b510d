"""What is launched to multiply videos, classes and gradients: the kernels are in product_kernel.

B videos, C classes, D width; a gradient of M rows sums over K.
"""

import torch
from torch import Tensor

from ..launch import Launch
from .product_kernel import gradient_kernel, scores_kernel
from .tiles import GRADIENT, MAX_SPLITS, PROGRAMS, SCORES, bits, ceil


def plan_scores(video_BD: Tensor, means_CD: Tensor, inverse_B: Tensor, arch: int) -> tuple[Launch, Tensor]:
    """The launch that multiplies videos and classes, and the products (B, C) that it fills."""
    (B, D), C = video_BD.shape, len(means_CD)
    tiles = SCORES[arch, bits(video_BD.dtype)]
    scores_BC = means_CD.new_empty((B, C))
    launch = Launch(
        kernel=scores_kernel,
        grid=(ceil(B, tiles.rows), ceil(C, tiles.columns)),
        arguments={
            "video_ptr": video_BD.contiguous(),
            "means_ptr": means_CD.contiguous(),
            "inverse_ptr": inverse_B,
            "scores_ptr": scores_BC,
            "B": B,
            "C": C,
            "D": D,
        },
        constants={"ROWS": tiles.rows, "CLASSES": tiles.columns, "BLOCK_D": tiles.depth},
        warps=tiles.warps,
        stages=tiles.stages,
    )
    return launch, scores_BC


def plan_gradient(
    pull_MK: Tensor, x_KD: Tensor, weight_K: Tensor | None, dtype: torch.dtype, arch: int
) -> tuple[Launch, Tensor]:
    """The launch of a product for a gradient of `dtype`, and what it fills: parts (splits, M, D) that add up to it."""
    (M, K), D = pull_MK.shape, x_KD.shape[1]
    narrow = dtype != torch.float32
    tiles = GRADIENT[arch, 16 if narrow else 32]
    across, across_D = ceil(M, tiles.rows), ceil(D, tiles.columns)
    splits = min(ceil(PROGRAMS, across * across_D), MAX_SPLITS, ceil(K, tiles.depth))
    parts = pull_MK.new_empty((splits, M, D))
    launch = Launch(
        kernel=gradient_kernel,
        grid=(across, across_D, splits),
        arguments={
            "pull_ptr": pull_MK,
            "x_ptr": x_KD.contiguous(),
            "weight_ptr": weight_K,
            "out_ptr": parts,
            "M": M,
            "K": K,
            "D": D,
            "stride_m": pull_MK.stride(0),
            "stride_k": pull_MK.stride(1),
            "per_split": ceil(ceil(K, tiles.depth), splits) * tiles.depth,
        },
        constants={"NARROW": narrow, "ROWS": tiles.rows, "DEPTH": tiles.depth, "BLOCK_D": tiles.columns},
        warps=tiles.warps,
        stages=tiles.stages,
    )
    return launch, parts
