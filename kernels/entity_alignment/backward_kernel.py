"""The backward kernels of entity alignment, which find the logits again.

share[i, j] = exp(logits[i, j] - lse[i])        pulls[i, j] = grad[i] . entity[j]
mean[i]     = sum_j share[i, j] * pulls[i, j]
work[i, j]  = share[i, j] * (pulls[i, j] - mean[i]) * column[j]
grad of the scaled unit region i = sum_j work[i, j] * entity[j]
grad of the unit entity j, over its length = sum_i work[i, j] * row[i] * region[i]
grad of the gathered rows of entity j = sum_i [index[i] = j] * grad[i]

`work` exists for some entities at a time. Each program sums in a fixed order.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import triton
import triton.language as tl

from .tile_kernel import add_product, both_products_tile, finish_logits


@triton.jit(do_not_specialize=["R", "K", "per_split"])
def mean_kernel(
    region_ptr,  # (R, D)
    grad_ptr,  # (R, D)
    entity_ptr,  # (K, D)
    row_ptr,  # (R,) float32
    column_ptr,  # (K,) float32
    noise_ptr,  # (R, K) float32, or None
    seed_ptr,  # int64, or None
    best_ptr,  # (R,) float32
    own_ptr,  # (R,) float32, the pull of the chosen entity
    total_ptr,  # (splits, R) float32
    mean_ptr,  # (splits, R) float32
    R,
    K,
    D,
    per_split,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Of a split: the total of exp(logits - best), and the sum of it times the pulls, less the chosen one's."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    split = tl.program_id(1)
    best = tl.load(best_ptr + i, mask=i < R, other=0.0)
    own = tl.load(own_ptr + i, mask=i < R, other=0.0)
    total = tl.zeros((ROWS,), tl.float32)
    mean = tl.zeros((ROWS,), tl.float32)
    for j0 in range(split * per_split, tl.minimum((split + 1) * per_split, K), COLUMNS):
        j = j0 + tl.arange(0, COLUMNS)
        products, pulls = both_products_tile(
            region_ptr, grad_ptr, entity_ptr, i, j, R, K, D, ROWS, COLUMNS, BLOCK_D
        )  # fmt: skip
        logits = finish_logits(products, row_ptr, column_ptr, noise_ptr, seed_ptr, i, j, R, K)
        share = tl.where((j < K)[None, :], tl.exp(logits - best[:, None]), 0.0)
        total += tl.sum(share, axis=1)
        mean += tl.sum(share * (pulls - own[:, None]), axis=1)
    where = split.to(tl.int64) * R + i
    tl.store(total_ptr + where, total, mask=i < R)
    tl.store(mean_ptr + where, mean, mask=i < R)


@triton.jit(do_not_specialize=["R", "K", "first", "count"])
def pull_kernel(
    region_ptr,  # (R, D)
    grad_ptr,  # (R, D)
    entity_ptr,  # (K, D)
    row_ptr,  # (R,) float32
    column_ptr,  # (K,) float32
    noise_ptr,  # (R, K) float32, or None
    seed_ptr,  # int64, or None
    lse_ptr,  # (R,) float32
    mean_ptr,  # (R,) float32
    work_ptr,  # (R, count) float32
    R,
    K,
    D,
    first,
    count,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """`work` of the entities from `first`."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    j = first + at
    products, pulls = both_products_tile(region_ptr, grad_ptr, entity_ptr, i, j, R, K, D, ROWS, COLUMNS, BLOCK_D)
    logits = finish_logits(products, row_ptr, column_ptr, noise_ptr, seed_ptr, i, j, R, K)
    lse = tl.load(lse_ptr + i, mask=i < R, other=0.0)
    mean = tl.load(mean_ptr + i, mask=i < R, other=0.0)
    column = tl.load(column_ptr + j, mask=j < K, other=0.0)
    work = tl.exp(logits - lse[:, None]) * (pulls - mean[:, None]) * column[None, :]
    where = i.to(tl.int64)[:, None] * count + at[None, :]
    tl.store(work_ptr + where, work, mask=(i < R)[:, None] & (at < count)[None, :])


@triton.jit(do_not_specialize=["R", "first", "count"])
def region_kernel(
    work_ptr,  # (R, count) float32
    entity_ptr,  # (K, D)
    out_ptr,  # (R, D) float32
    R,
    D,
    first,
    count,
    ADD: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """What the entities from `first` add to the gradient of the scaled unit regions; all of it without ADD."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    where = i.to(tl.int64)[:, None] * D + d[None, :]
    inside = (i < R)[:, None] & (d < D)[None, :]
    total = tl.zeros((ROWS, BLOCK_D), tl.float32)
    for at0 in range(0, count, STEP):
        at = at0 + tl.arange(0, STEP)
        work = tl.load(
            work_ptr + i.to(tl.int64)[:, None] * count + at[None, :],
            mask=(i < R)[:, None] & (at < count)[None, :],
            other=0.0,
        )
        entity = tl.load(
            entity_ptr + (first + at).to(tl.int64)[:, None] * D + d[None, :],
            mask=(at < count)[:, None] & (d < D)[None, :],
            other=0.0,
        )
        total = add_product(total, work, entity)
    if ADD:
        total += tl.load(out_ptr + where, mask=inside, other=0.0)
    tl.store(out_ptr + where, total, mask=inside)


@triton.jit(do_not_specialize=["R", "first", "count"])
def entity_kernel(
    work_ptr,  # (R, count) float32
    region_ptr,  # (R, D)
    grad_ptr,  # (R, D)
    row_ptr,  # (R,) float32
    index_ptr,  # (R,) int64
    unit_ptr,  # (K, D) float32
    gathered_ptr,  # (K, D) float32
    R,
    D,
    first,
    count,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Both gradients of the entities from `first`: through their cosines, and of their rows where they were chosen."""
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    unit = tl.zeros((ROWS, BLOCK_D), tl.float32)
    gathered = tl.zeros((ROWS, BLOCK_D), tl.float32)
    for i0 in range(0, R, STEP):
        i = i0 + tl.arange(0, STEP)
        row = tl.load(row_ptr + i, mask=i < R, other=0.0)
        work = tl.load(
            work_ptr + i.to(tl.int64)[None, :] * count + at[:, None],
            mask=(i < R)[None, :] & (at < count)[:, None],
            other=0.0,
        )
        where = i.to(tl.int64)[:, None] * D + d[None, :]
        inside = (i < R)[:, None] & (d < D)[None, :]
        region = tl.load(region_ptr + where, mask=inside, other=0.0)
        unit = add_product(unit, work * row[None, :], region)
        index = tl.load(index_ptr + i, mask=i < R, other=-1)
        grad = tl.load(grad_ptr + where, mask=inside, other=0.0)
        chosen = tl.where(index[None, :] == (first + at)[:, None], 1.0, 0.0)
        gathered = tl.dot(chosen.to(grad.dtype), grad, gathered, input_precision="ieee")
    where = (first + at).to(tl.int64)[:, None] * D + d[None, :]
    inside = (at < count)[:, None] & (d < D)[None, :]
    tl.store(unit_ptr + where, unit, mask=inside)
    tl.store(gathered_ptr + where, gathered, mask=inside)
