"""What is launched to make classes of text and to spread their gradient: the kernels are in means_kernel.

B videos, C classes, P rows of text of all classes, D width.
"""

import torch
from torch import Tensor

from ..launch import Launch
from .means_kernel import collect_kernel, lengths_kernel, spread_kernel
from .tiles import ceil

ROW_ELEMENTS, TILE_ELEMENTS = 1024, 4096
"""Most elements of a row, and of all its rows, that a program works on at a time."""


def plan_means(text_PD: Tensor, offsets: Tensor, normalize: bool) -> tuple[Launch, Tensor, Tensor]:
    """The launch that makes classes, the means (C, D) and the inverse lengths (P,) that it fills."""
    P, D = text_PD.shape
    means_CD = text_PD.new_empty((len(offsets) - 1, D), dtype=torch.float32)
    inverse_P = text_PD.new_empty(P, dtype=torch.float32)
    return plan_collect(text_PD, None, offsets, None, inverse_P, means_CD, normalize), means_CD, inverse_P


def plan_collect(
    x: Tensor,
    order: Tensor | None,
    offsets: Tensor,
    weight: Tensor | None,
    inverse: Tensor | None,
    out: Tensor,
    normalize: bool,
) -> Launch:
    """The launch that fills `out` (segments, D): sums of rows with weights, or means where there are none."""
    D = out.shape[1]
    width, rows = row_tile(D)
    return Launch(
        kernel=collect_kernel,
        grid=(len(out), ceil(D, width)),
        arguments={
            "x_ptr": x.contiguous(),
            "order_ptr": order,
            "offsets_ptr": offsets,
            "weight_ptr": weight,
            "inverse_ptr": inverse,
            "out_ptr": out,
            "D": D,
        },
        constants={"NORMALIZE": normalize, "ROWS": rows, "BLOCK_D": width},
        warps=4,
        stages=1,
        products=False,
    )


def plan_spread(
    grad_CD: Tensor, text_PD: Tensor, offsets: Tensor, owners: Tensor, inverse_P: Tensor, normalize: bool
) -> tuple[Launch, Tensor]:
    """The launch that gives each row its share of the gradient of its class, and what it fills, (P, D)."""
    P, D = text_PD.shape
    width, rows = row_tile(D)
    grad_PD = text_PD.new_empty((P, D))
    launch = Launch(
        kernel=spread_kernel,
        grid=(ceil(P, rows),),
        arguments={
            "grad_ptr": grad_CD.contiguous(),
            "x_ptr": text_PD.contiguous(),
            "offsets_ptr": offsets,
            "owners_ptr": owners,
            "inverse_ptr": inverse_P,
            "out_ptr": grad_PD,
            "P": P,
            "D": D,
        },
        constants={"NORMALIZE": normalize, "ROWS": rows, "BLOCK_D": width},
        warps=4,
        stages=1,
        products=False,
    )
    return launch, grad_PD


def plan_lengths(video_BD: Tensor) -> tuple[Launch, Tensor]:
    """The launch that measures videos, and the inverse lengths (B,) that it fills."""
    B, D = video_BD.shape
    width, rows = row_tile(D)
    inverse_B = video_BD.new_empty(B, dtype=torch.float32)
    launch = Launch(
        kernel=lengths_kernel,
        grid=(ceil(B, rows),),
        arguments={"x_ptr": video_BD.contiguous(), "inverse_ptr": inverse_B, "B": B, "D": D},
        constants={"ROWS": rows, "BLOCK_D": width},
        warps=4,
        stages=1,
        products=False,
    )
    return launch, inverse_B


def row_tile(D: int) -> tuple[int, int]:
    """Elements of a row, and rows, of a program's tile."""
    width = min(1 << (D - 1).bit_length(), ROW_ELEMENTS)
    return width, max(1, TILE_ELEMENTS // width)
