"""The kernels that move tokens: one collects those that become one, one spreads a merged token over those it was.

collect:  out[m] = sum over the tokens n of m of  size[n] * (x[n] + residual[n]) / total[m],   total[m] = sum of size[n]
spread:   out[n] = merged[target[n]] * size[n] / total[target[n]]

The gradient of each is the other, without the residual. A merged token of one token is that token, to the bit.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows", "N", "M"])
def collect_kernel(
    x_ptr,  # (B, N, D)
    residual_ptr,  # (B, N, D), or None
    size_ptr,  # (B, N) float32, or None for 1
    order_ptr,  # (B, N) int32
    offsets_ptr,  # (B, M + 1) int32
    out_ptr,  # (B, M, D)
    total_ptr,  # (B, M) float32
    rows,  # B * M
    N,
    M,
    D,
    MEAN: tl.constexpr,  # else the sum alone
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # row * D can pass 2**31
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    known = row < rows
    b = row // M
    first = tl.load(offsets_ptr + row + b, mask=known, other=0)
    count = tl.load(offsets_ptr + row + b + 1, mask=known, other=0) - first
    out = tl.zeros((ROWS, BLOCK_D), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for step in range(0, tl.max(count, axis=0)):
        here = step < count
        token = b * N + tl.load(order_ptr + b * N + first + step, mask=here, other=0)
        where = token[:, None] * D + d[None, :]
        mask = here[:, None] & (d < D)[None, :]
        value = tl.load(x_ptr + where, mask=mask, other=0.0).to(tl.float32)
        if residual_ptr is not None:
            value += tl.load(residual_ptr + where, mask=mask, other=0.0).to(tl.float32)
        if MEAN:
            size = here.to(tl.float32)
            if size_ptr is not None:
                size = tl.load(size_ptr + token, mask=here, other=0.0)
            total += size
            value = tl.where(count > 1, size, 1.0)[:, None] * value
        out += value
    if MEAN:
        out = tl.div_rn(out, tl.where(count > 1, total, 1.0)[:, None])
        tl.store(total_ptr + row, total, mask=known & (tl.program_id(1) == 0))
    tl.store(out_ptr + row[:, None] * D + d[None, :], out, mask=known[:, None] & (d < D)[None, :])


@triton.jit(do_not_specialize=["rows", "N", "M"])
def spread_kernel(
    merged_ptr,  # (B, M, D)
    target_ptr,  # (B, N) int32
    offsets_ptr,  # (B, M + 1) int32
    size_ptr,  # (B, N) float32, or None for 1
    total_ptr,  # (B, M) float32, or None: do not weigh
    out_ptr,  # (B, N, D)
    rows,  # B * N
    N,
    M,
    D,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    known = row < rows
    b = row // N
    source = b * M + tl.load(target_ptr + row, mask=known, other=0)
    mask = known[:, None] & (d < D)[None, :]
    value = tl.load(merged_ptr + source[:, None] * D + d[None, :], mask=mask, other=0.0).to(tl.float32)
    if total_ptr is not None:
        at = offsets_ptr + source + b
        count = tl.load(at + 1, mask=known, other=0) - tl.load(at, mask=known, other=0)
        size = known.to(tl.float32)
        if size_ptr is not None:
            size = tl.load(size_ptr + row, mask=known, other=0.0)
        share = tl.div_rn(size, tl.load(total_ptr + source, mask=known, other=1.0))
        value = tl.where(count > 1, share, 1.0)[:, None] * value
    tl.store(out_ptr + row[:, None] * D + d[None, :], value, mask=mask)
