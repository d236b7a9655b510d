"""Token merging on Triton: what is launched. The kernels are in match_kernel and gather_kernel.

B images, N tokens of each, M after merging, D width, K width of the metric, E even tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..launch import Launch, architecture
from .gather_kernel import collect_kernel, spread_kernel
from .match_kernel import match_kernel, place_kernel, rank_kernel
from .matching import Matching, protected


@dataclass(frozen=True)
class Tiles:
    """The similarities that a step of a program finds, and how it runs."""

    even: int
    odd: int
    depth: int
    """Part of the width K that one step sums over."""
    warps: int
    stages: int


MATCH = {
    (80, 16): Tiles(64, 64, 32, 8, 2),
    (90, 16): Tiles(64, 64, 32, 8, 2),
    (100, 16): Tiles(64, 64, 32, 8, 2),
    (80, 32): Tiles(32, 64, 32, 8, 1),
    (90, 32): Tiles(32, 64, 32, 8, 1),
    (100, 32): Tiles(32, 64, 32, 8, 1),
}
"""By architecture and bits of an element. 32 bits are IEEE float32, which no tensor core multiplies."""

COUNTED = 64
"""Even tokens that a program ranks or places, and those that it compares them with in one step."""

ROWS, ROW_ELEMENTS = 8, 256
"""Tokens, and elements of each, that a program moves."""


def match(metric_BNK: Tensor, r: int, protect: int) -> Matching:
    """Match even tokens with odd ones; see the op."""
    launches, matching = plan_match(metric_BNK, r, protect, architecture(metric_BNK.device))
    _run(launches, metric_BNK)
    return matching


def merge(
    x_BND: Tensor, residual_BND: Tensor | None, size_BN: Tensor | None, matching: Matching
) -> tuple[Tensor, Tensor]:
    """Means weighted by size, in the wider dtype of both inputs, and the sizes added up."""
    launch, merged_BMD, total_BM = plan_collect(x_BND, residual_BND, size_BN, matching, mean=True)
    _run([launch], merged_BMD)
    return merged_BMD, total_BM


def merge_backward(grad_BMD: Tensor, size_BN: Tensor | None, total_BM: Tensor, matching: Matching) -> Tensor:
    """(B, N, D): each token's share of the gradient of its merged token."""
    launch, grad_BND = plan_spread(grad_BMD, size_BN, total_BM, matching)
    _run([launch], grad_BND)
    return grad_BND


def unmerge(merged_BMD: Tensor, matching: Matching) -> Tensor:
    """(B, N, D): each token gets its merged token's row."""
    launch, x_BND = plan_spread(merged_BMD, None, None, matching)
    _run([launch], x_BND)
    return x_BND


def unmerge_backward(grad_BND: Tensor, matching: Matching) -> Tensor:
    """(B, M, D): the sum of the gradients of the tokens that took a merged token's row."""
    launch, grad_BMD, _ = plan_collect(grad_BND, None, None, matching, mean=False)
    _run([launch], grad_BMD)
    return grad_BMD


def _run(launches: list[Launch], rows_BXD: Tensor) -> None:
    if rows_BXD.shape[0]:
        for launch in launches:
            launch.run()


def plan_match(metric_BNK: Tensor, r: int, protect: int, arch: int) -> tuple[list[Launch], Matching]:
    """The launches of a matching, in their order, and what they fill."""
    B, N, K = metric_BNK.shape
    E, M = N - N // 2, N - r
    even_start, odd_start = protected(protect)
    tiles = MATCH[arch, 8 * metric_BNK.element_size()]
    key_BE, partner_BE, rank_BE = (metric_BNK.new_empty((B, E), dtype=torch.int32) for _ in range(3))
    target_BN, order_BN = (metric_BNK.new_empty((B, N), dtype=torch.int32) for _ in range(2))
    offsets_BM = metric_BNK.new_empty((B, M + 1), dtype=torch.int32)
    match = Launch(
        kernel=match_kernel,
        grid=(B * _ceil(E, tiles.even),),
        arguments={
            "metric_ptr": metric_BNK.contiguous(),
            "key_ptr": key_BE,
            "partner_ptr": partner_BE,
            "N": N,
            "K": K,
            "start": odd_start,
        },
        constants={"EVEN": tiles.even, "ODD": tiles.odd, "BLOCK_K": tiles.depth},
        warps=tiles.warps,
        stages=tiles.stages,
    )
    rank = Launch(
        kernel=rank_kernel,
        grid=(B * _ceil(E, COUNTED),),
        arguments={"key_ptr": key_BE, "rank_ptr": rank_BE, "E": E, "start": even_start},
        constants={"BLOCK": COUNTED},
        warps=4,
        stages=1,
        products=False,
    )
    place = Launch(
        kernel=place_kernel,
        grid=(B * _ceil(E, COUNTED),),
        arguments={
            "rank_ptr": rank_BE,
            "partner_ptr": partner_BE,
            "target_ptr": target_BN,
            "order_ptr": order_BN,
            "offsets_ptr": offsets_BM,
            "N": N,
            "r": r,
        },
        constants={"BLOCK": COUNTED},
        warps=4,
        stages=1,
        products=False,
    )
    return [match, rank, place], Matching(target_BN, order_BN, offsets_BM)


def plan_collect(
    x_BND: Tensor, residual_BND: Tensor | None, size_BN: Tensor | None, matching: Matching, *, mean: bool
) -> tuple[Launch, Tensor, Tensor]:
    """The launch that makes merged tokens, the rows (B, M, D) that it fills, and for means the sizes (B, M)."""
    B, N, D = x_BND.shape
    M = matching.merged
    dtype = x_BND.dtype if residual_BND is None else torch.promote_types(x_BND.dtype, residual_BND.dtype)
    out_BMD = x_BND.new_empty((B, M, D), dtype=dtype)
    total_BM = x_BND.new_empty((B, M) if mean else 0, dtype=torch.float32)
    launch = Launch(
        kernel=collect_kernel,
        grid=(_ceil(B * M, ROWS), _ceil(D, ROW_ELEMENTS)),
        arguments={
            "x_ptr": x_BND.contiguous(),
            "residual_ptr": None if residual_BND is None else residual_BND.contiguous(),
            "size_ptr": None if size_BN is None else size_BN.contiguous(),
            "order_ptr": matching.order_BN,
            "offsets_ptr": matching.offsets_BM,
            "out_ptr": out_BMD,
            "total_ptr": total_BM,
            "rows": B * M,
            "N": N,
            "M": M,
            "D": D,
        },
        constants={"MEAN": mean, "ROWS": ROWS, "BLOCK_D": ROW_ELEMENTS},
        warps=4,
        stages=1,
        products=False,
    )
    return launch, out_BMD, total_BM


def plan_spread(
    merged_BMD: Tensor, size_BN: Tensor | None, total_BM: Tensor | None, matching: Matching
) -> tuple[Launch, Tensor]:
    """The launch that gives each token its merged token's row, weighted by its share in it if there are sizes."""
    B, M, D = merged_BMD.shape
    N = matching.tokens
    out_BND = merged_BMD.new_empty((B, N, D))
    launch = Launch(
        kernel=spread_kernel,
        grid=(_ceil(B * N, ROWS), _ceil(D, ROW_ELEMENTS)),
        arguments={
            "merged_ptr": merged_BMD.contiguous(),
            "target_ptr": matching.target_BN,
            "offsets_ptr": matching.offsets_BM,
            "size_ptr": None if size_BN is None else size_BN.contiguous(),
            "total_ptr": total_BM,
            "out_ptr": out_BND,
            "rows": B * N,
            "N": N,
            "M": M,
            "D": D,
        },
        constants={"ROWS": ROWS, "BLOCK_D": ROW_ELEMENTS},
        warps=4,
        stages=1,
        products=False,
    )
    return launch, out_BND


def _ceil(count: int, size: int) -> int:
    return -(-count // size)
