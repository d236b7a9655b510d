"""The kernels that make classes of rows of text, and spread their gradient.

unit[p]      = x[p] / |x[p]|                                                   0 for length 0
mean[c]      = sum over the rows p of class c of  unit[p] / rows of c
grad_x[p]    = (g - unit[p] (unit[p] . g)) / (|x[p]| rows of c),   g = grad[c] for the class c of row p

Not one of them is a product of matrices. Each program sums in a fixed order.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["B"])
def lengths_kernel(
    x_ptr,  # (B, D)
    inverse_ptr,  # (B,) float32
    B,
    D,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # b * D can pass 2**31
    tl.store(inverse_ptr + b, _inverse_length(x_ptr, b, b < B, D, ROWS, BLOCK_D), mask=b < B)


@triton.jit
def collect_kernel(
    x_ptr,  # (rows, D)
    order_ptr,  # int64, the rows of one segment after the other, or None: as they lie
    offsets_ptr,  # (segments + 1,) int64
    weight_ptr,  # (rows,) float32: sums of rows with these weights, those of weight 0 are not read; or None: means
    inverse_ptr,  # (rows,) float32, is filled for means
    out_ptr,  # (segments, D) float32
    D,
    NORMALIZE: tl.constexpr,  # means of unit rows
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    c = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    first = tl.load(offsets_ptr + c)
    count = (tl.load(offsets_ptr + c + 1) - first).to(tl.int32)
    total = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, count, ROWS):
        here = start + tl.arange(0, ROWS) < count
        row = first + start + tl.arange(0, ROWS)
        if order_ptr is not None:
            row = tl.load(order_ptr + row, mask=here, other=0)
        if weight_ptr is not None:
            weight = tl.load(weight_ptr + row, mask=here, other=0.0)
            here = here & (weight != 0)  # 0 times a NaN would be one
        else:
            inverse = here.to(tl.float32)
            if NORMALIZE:
                inverse = _inverse_length(x_ptr, row, here, D, ROWS, BLOCK_D)
            tl.store(inverse_ptr + row, inverse, mask=here & (tl.program_id(1) == 0))
            weight = tl.div_rn(inverse, tl.zeros((ROWS,), tl.float32) + count)
        x = tl.load(x_ptr + row[:, None] * D + d[None, :], mask=here[:, None] & (d < D)[None, :], other=0.0)
        total += tl.sum(tl.where(here, weight, 0.0)[:, None] * x.to(tl.float32), axis=0)
    tl.store(out_ptr + c * D + d, total, mask=d < D)


@triton.jit(do_not_specialize=["P"])
def spread_kernel(
    grad_ptr,  # (C, D) float32
    x_ptr,  # (P, D)
    offsets_ptr,  # (C + 1,) int64
    owners_ptr,  # (P,) int32
    inverse_ptr,  # (P,) float32
    out_ptr,  # (P, D)
    P,
    D,
    NORMALIZE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    p = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    known = p < P
    c = tl.load(owners_ptr + p, mask=known, other=0).to(tl.int64)
    count = tl.load(offsets_ptr + c + 1) - tl.load(offsets_ptr + c)
    inverse = tl.load(inverse_ptr + p, mask=known, other=0.0)
    weight = tl.div_rn(inverse, count.to(tl.float32))
    along = tl.zeros((ROWS,), tl.float32)
    if NORMALIZE:
        for d0 in range(0, D, BLOCK_D):
            d = d0 + tl.arange(0, BLOCK_D)
            mask = known[:, None] & (d < D)[None, :]
            x = tl.load(x_ptr + p[:, None] * D + d[None, :], mask=mask, other=0.0).to(tl.float32)
            along += tl.sum(x * tl.load(grad_ptr + c[:, None] * D + d[None, :], mask=mask, other=0.0), axis=1)
        along = along * inverse * inverse
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        mask = known[:, None] & (d < D)[None, :]
        out = tl.load(grad_ptr + c[:, None] * D + d[None, :], mask=mask, other=0.0)
        if NORMALIZE:
            x = tl.load(x_ptr + p[:, None] * D + d[None, :], mask=mask, other=0.0).to(tl.float32)
            out -= along[:, None] * x
        tl.store(out_ptr + p[:, None] * D + d[None, :], weight[:, None] * out, mask=mask)


@triton.jit
def _inverse_length(x_ptr, row, known, D, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """1 / length of rows; 0 for length 0, NaN where the square of the length is not finite."""
    square = tl.zeros((ROWS,), tl.float32)
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        x = tl.load(x_ptr + row[:, None] * D + d[None, :], mask=known[:, None] & (d < D)[None, :], other=0.0)
        square += tl.sum(x.to(tl.float32) * x.to(tl.float32), axis=1)
    finite = (square > 0) & (square < float("inf"))
    root = tl.sqrt_rn(tl.where(finite, square, 1.0))
    return tl.where(finite, tl.div_rn(1.0 + tl.zeros_like(root), root), tl.where(square == 0, 0.0, float("nan")))
