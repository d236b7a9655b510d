"""The public ops: matching tokens, merging them, and the way back (ToMe; ALT Eq. 2-3).

B images, N tokens of each, M after merging, D width, K width of the metric.
"""

from typing import cast

import torch
from torch import Tensor

from ..library import Impl, choose
from .matching import Matching, most_merges
from .reference import match_reference, merge_reference, unmerge_reference, wide
from .torch_op import torch_match, torch_merge, torch_unmerge

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def match_tokens(metric_BNK: Tensor, r: int, *, protect: int = 1, impl: Impl = "auto") -> Matching:
    """Choose r tokens at even positions, each of which will merge into the odd token that it resembles most.

    Every even token picks the odd one of the highest cosine; the r tokens with the highest of these merge. Ties go to
    the lowest position, twice: of equal odd tokens to the first, of equal even tokens to the first. A token of length 0
    has cosine 0 with all others. A cosine that is NaN is below every number; a length that is not finite makes its
    cosines NaN (in float32, a length above 1.8e19 is not finite).

    Args:
        metric_BNK: (B, N, K) what likeness is judged by: in a vision transformer the mean over heads of the keys of its
            attention. fp16, bf16, fp32 or fp64, any strides; lengths do not matter. It gets no gradient.
        r: how many tokens merge away, >= 0; more than (N - protect) // 2 means that many. 0 merges none, but the order
            of the tokens becomes that of every matching.
        protect: the first `protect` tokens (1: the class token) neither merge away nor receive, >= 0.
        impl: "auto" takes Triton on CUDA and the blocked path on the CPU.

    Returns:
        A `Matching` of N tokens to M = N - r: first the even tokens that stay, in their order, then all odd ones. Its
        shapes depend on N, r and `protect` alone, and nothing is read back from the device.

    Raises:
        ValueError: a shape, dtype or option is not supported.
    Source:
        Bolya et al., "Token Merging: Your ViT But Faster", section 3; ALT, Eq. 2-3. Differs from them by: ties, NaN and
        zeros are defined, r = 0 orders like any other r.
    """
    path = choose(impl, metric_BNK)
    if metric_BNK.dim() != 3 or 0 in metric_BNK.shape[1:]:
        raise ValueError(f"metric_BNK must have shape (B, N, K) with N, K >= 1, got {tuple(metric_BNK.shape)}")
    _check_dtype("metric_BNK", metric_BNK)
    for name, value in (("r", r), ("protect", protect)):
        if isinstance(value, (bool, float)) or value < 0:
            raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
    metric_BNK = metric_BNK.detach()
    r = min(r, most_merges(metric_BNK.shape[1], protect))
    if path == "reference":
        return match_reference(metric_BNK, r, protect)
    return Matching(*cast(tuple[Tensor, Tensor, Tensor], torch_match(metric_BNK, r, protect, path)))


def merge_tokens(
    x_BND: Tensor,
    matching: Matching,
    *,
    size_BN: Tensor | None = None,
    residual_BND: Tensor | None = None,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    """Merge tokens: the mean of those that become one, weighted by how many patches each stands for already.

    merged[m] = sum of size[n] * (x[n] + residual[n]) / sum of size[n], over the tokens n that go into m.

    Args:
        x_BND: (B, N, D) tokens, fp16, bf16, fp32 or fp64, any strides.
        matching: from `match_tokens`, of the same B and N.
        size_BN: (B, N) fp32 (fp64 for fp64), each > 0: the `size_BM` of the merging before; None for 1 each. Sizes are
            counts: they get no gradient, and must not ask for one.
        residual_BND: (B, N, D) added to x on the way, so that the sum of a residual branch is never stored. Its dtype
            may be another than that of x (a float32 stream beside bfloat16 branches), but float64 goes with float64.
        impl: "auto" takes Triton on CUDA and the blocked path on the CPU.

    Returns:
        (B, M, D) merged tokens in the wider dtype of x and the residual, summed in fp32 (fp64 for fp64) and rounded
        once; a token that nothing merged into is passed on to the bit. And (B, M) their sizes, fp32 (fp64 for fp64).

    Raises:
        ValueError: shapes, dtypes or devices disagree or are not supported, or `size_BN` requires a gradient.
        RuntimeError: the gradient is differentiated again (except with `impl="reference"`).
    Source:
        Bolya et al., "Token Merging: Your ViT But Faster", sections 3 and 3.1 (tracking sizes).
    """
    path = choose(impl, x_BND)
    _check_tokens("x_BND", x_BND, "N", matching, matching.tokens)
    if residual_BND is not None:
        _check_residual(residual_BND, x_BND)
    if size_BN is not None:
        _check_size(size_BN, x_BND)
    if path == "reference":
        return merge_reference(x_BND, residual_BND, size_BN, matching)
    return cast(tuple[Tensor, Tensor], torch_merge(x_BND, residual_BND, size_BN, *matching, path))


def unmerge_tokens(merged_BMD: Tensor, matching: Matching, *, impl: Impl = "auto") -> Tensor:
    """Give every token the row of the merged token that it went into: N tokens again, in their first order.

    Args:
        merged_BMD: (B, M, D) fp16, bf16, fp32 or fp64, any strides.
        matching: from `match_tokens`, of the same B and M.
        impl: "auto" takes Triton on CUDA and the blocked path on the CPU.

    Returns:
        (B, N, D) in the dtype of `merged_BMD`. Its gradient sums in fp32 (fp64 for fp64).

    Raises:
        ValueError: shapes or devices disagree, or the dtype is not supported.
        RuntimeError: the gradient is differentiated again (except with `impl="reference"`).
    """
    path = choose(impl, merged_BMD)
    _check_tokens("merged_BMD", merged_BMD, "M", matching, matching.merged)
    if path == "reference":
        return unmerge_reference(merged_BMD, matching)
    return cast(Tensor, torch_unmerge(merged_BMD, *matching, path))


def _check_dtype(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in DTYPES:
        raise ValueError(f"{name} must be float16, bfloat16, float32 or float64, got {tensor.dtype}")


def _check_tokens(name: str, tokens: Tensor, letter: str, matching: Matching, count: int) -> None:
    images = len(matching.target_BN)
    if tokens.dim() != 3 or tokens.shape[:2] != (images, count) or tokens.shape[2] == 0:
        want = f"({images}, {count}, D) with D >= 1, the B and {letter} of the matching"
        raise ValueError(f"{name} must have shape {want}, got {tuple(tokens.shape)}")
    _check_dtype(name, tokens)
    if tokens.device != matching.target_BN.device:
        raise ValueError(f"{name} must be on {matching.target_BN.device} (as the matching is), got {tokens.device}")


def _check_residual(residual_BND: Tensor, x_BND: Tensor) -> None:
    if residual_BND.shape != x_BND.shape:
        want = f"{tuple(x_BND.shape)} (as x_BND has)"
        raise ValueError(f"residual_BND must have shape {want}, got {tuple(residual_BND.shape)}")
    _check_dtype("residual_BND", residual_BND)
    if torch.float64 in (residual_BND.dtype, x_BND.dtype) and residual_BND.dtype != x_BND.dtype:
        raise ValueError(f"float64 goes with float64: x_BND is {x_BND.dtype}, residual_BND {residual_BND.dtype}")
    if residual_BND.device != x_BND.device:
        raise ValueError(f"residual_BND must be on {x_BND.device} (the device of x_BND), got {residual_BND.device}")


def _check_size(size_BN: Tensor, x_BND: Tensor) -> None:
    if size_BN.shape != x_BND.shape[:2] or size_BN.dtype != wide(x_BND.dtype):
        want = f"{wide(x_BND.dtype)} {tuple(x_BND.shape[:2])} (the B, N of x_BND)"
        raise ValueError(f"size_BN must be {want}, got {size_BN.dtype} {tuple(size_BN.shape)}")
    if size_BN.requires_grad:
        raise ValueError("size_BN must not require a gradient: sizes are counts, detach them")
    if size_BN.device != x_BND.device:
        raise ValueError(f"size_BN must be on {x_BND.device} (the device of x_BND), got {size_BN.device}")
