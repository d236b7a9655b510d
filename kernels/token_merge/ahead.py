"""The launches of token merging that stand for all: every branch of its kernels, for every dtype."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..launch import Launch
from .triton import plan_collect, plan_match, plan_spread

DTYPES = (torch.bfloat16, torch.float16, torch.float32)

B, N, D, R = 64, 197, 768, 8


def match_launches(arch: int) -> Iterator[tuple[str, torch.dtype, Launch]]:
    """Name, dtype and launch of matching, planned for `arch` with tensors that take no memory."""
    for dtype in DTYPES:
        for width in (64, 50):  # 50 is no multiple of what one load takes
            (match, *counting), _ = plan_match(_empty(B, N, width, dtype=dtype), R, 1, arch)
            yield f"match, width {width}", dtype, match
    for name, launch in zip(("rank", "place"), counting, strict=True):
        yield name, torch.int32, launch


def merge_launches(arch: int) -> Iterator[tuple[str, torch.dtype, Launch]]:
    """Name, dtype and launch of merging, planned for `arch` with tensors that take no memory."""
    _, matching = plan_match(_empty(B, N, 64), R, 1, arch)
    for dtype in DTYPES:
        x_BND, size_BN = _empty(B, N, D, dtype=dtype), _empty(B, N)
        collect, merged_BMD, total_BM = plan_collect(x_BND, x_BND, size_BN, matching, mean=True)
        yield "merge a residual branch, sizes", dtype, collect
        yield "merge", dtype, plan_collect(x_BND, None, None, matching, mean=True)[0]
        yield "gradient of unmerge", dtype, plan_collect(x_BND, None, None, matching, mean=False)[0]
        yield "gradient of merge, sizes", dtype, plan_spread(merged_BMD, size_BN, total_BM, matching)[0]
        yield "gradient of merge", dtype, plan_spread(merged_BMD, None, total_BM, matching)[0]
        yield "unmerge", dtype, plan_spread(merged_BMD, None, None, matching)[0]
        odd_BND = _empty(B, N, 767, dtype=dtype)  # one element at a time
        collect, merged_BMD, total_BM = plan_collect(odd_BND, odd_BND, size_BN, matching, mean=True)
        yield "merge a residual branch, sizes, width 767", dtype, collect
        yield "gradient of merge, sizes, width 767", dtype, plan_spread(merged_BMD, size_BN, total_BM, matching)[0]
    mixed, _, _ = plan_collect(_empty(B, N, D, dtype=torch.bfloat16), _empty(B, N, D), size_BN, matching, mean=True)
    yield "merge a branch into a float32 stream", torch.bfloat16, mixed


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
