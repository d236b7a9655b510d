"""The products of matrices: videos with classes, and the gradients of both.

Classes are float32 whatever the videos are, so 16 bits do not hold them: on the tensor cores, float32 is split into
bfloat16 parts, as many as the digits of the result ask for. For float32 videos nothing is split, and nothing is tf32.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["B", "C"])
def scores_kernel(
    video_ptr,  # (B, D)
    means_ptr,  # (C, D) float32
    inverse_ptr,  # (B,) float32
    scores_ptr,  # (B, C) float32
    B,
    C,
    D,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """scores[b, c] = inverse[b] * video[b] . mean[c]"""
    b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # b * D can pass 2**31
    c = tl.program_id(1).to(tl.int64) * CLASSES + tl.arange(0, CLASSES)
    scores = products(video_ptr, means_ptr, b, b < B, c, C, D, ROWS, CLASSES, BLOCK_D)
    scores = scores * tl.load(inverse_ptr + b, mask=b < B, other=0.0)[:, None]
    tl.store(scores_ptr + b[:, None] * C + c[None, :], scores, mask=(b < B)[:, None] & (c < C)[None, :])


@triton.jit
def products(video_ptr, means_ptr, b, known, c, C, D,
             ROWS: tl.constexpr, CLASSES: tl.constexpr, BLOCK_D: tl.constexpr):  # fmt: skip
    """video[b] . mean[c] to all digits of float32, for the videos that are `known`."""
    total = tl.zeros((ROWS, CLASSES), tl.float32)
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        x = tl.load(video_ptr + b[:, None] * D + d[None, :], mask=known[:, None] & (d < D)[None, :], other=0.0)
        y = tl.load(means_ptr + c[None, :] * D + d[:, None], mask=(c < C)[None, :] & (d < D)[:, None], other=0.0)
        if x.dtype == tl.float32:
            total = tl.dot(x, y, total, input_precision="ieee")
        else:
            y_high = y.to(tl.bfloat16)
            y_rest = y - y_high.to(tl.float32)
            y_mid = y_rest.to(tl.bfloat16)
            y_low = (y_rest - y_mid.to(tl.float32)).to(tl.bfloat16)
            x_high = x.to(tl.bfloat16)
            if x.dtype == tl.float16:  # two parts hold all of its digits, and all of its range
                x_low = (x.to(tl.float32) - x_high.to(tl.float32)).to(tl.bfloat16)
                total = tl.dot(x_low, y_high, tl.dot(x_low, y_mid, tl.dot(x_low, y_low, total)))
            total = tl.dot(x_high, y_high, tl.dot(x_high, y_mid, tl.dot(x_high, y_low, total)))
    return total


@triton.jit(do_not_specialize=["M", "K", "per_split"])
def gradient_kernel(
    pull_ptr,  # (M, K) float32, of any strides
    x_ptr,  # (K, D)
    weight_ptr,  # (K,) float32, of the rows of x, those of weight 0 are not read; or None
    out_ptr,  # (splits, M, D) float32
    M,
    K,
    D,
    stride_m,
    stride_k,
    per_split,
    NARROW: tl.constexpr,  # the gradient is of 16 bits: a few more are enough
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """out[m] = sum over k of  pull[m, k] * weight[k] * x[k],  in parts that add up to it"""
    m = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    split = tl.program_id(2)
    total = tl.zeros((ROWS, BLOCK_D), tl.float32)
    for k0 in range(split * per_split, tl.minimum((split + 1) * per_split, K), DEPTH):
        k = k0 + tl.arange(0, DEPTH).to(tl.int64)
        known = k < K
        pull = tl.load(
            pull_ptr + m[:, None] * stride_m + k[None, :] * stride_k, mask=(m < M)[:, None] & known[None, :], other=0.0
        )
        if weight_ptr is not None:
            weight = tl.load(weight_ptr + k, mask=known, other=0.0)
            pull = pull * weight[None, :]
            known = known & (weight != 0)  # 0 times a NaN would be one
        x = tl.load(x_ptr + k[:, None] * D + d[None, :], mask=known[:, None] & (d < D)[None, :], other=0.0)
        if NARROW:
            high = pull.to(tl.bfloat16)
            low = (pull - high.to(tl.float32)).to(tl.bfloat16)
            x_high = x.to(tl.bfloat16)
            if x.dtype != tl.bfloat16:
                x_low = (x.to(tl.float32) - x_high.to(tl.float32)).to(tl.bfloat16)
                total = tl.dot(high, x_low, total)
            total = tl.dot(high, x_high, tl.dot(low, x_high, total))
        else:
            total = tl.dot(pull, x, total, input_precision="ieee")
    where = (split.to(tl.int64) * M + m)[:, None] * D + d[None, :]
    tl.store(out_ptr + where, total, mask=(m < M)[:, None] & (d < D)[None, :])
