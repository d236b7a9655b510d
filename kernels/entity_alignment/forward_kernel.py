"""The forward kernels of entity alignment: the search for the best entity of each region, and the gather of its row.

index[i] = argmax_j logits[i, j]        aligned[i] = entity[index[i]]

Logits exist as tiles only. Maxima are taken over integers that are ordered as the logits are: a NaN is above all, and
equal logits are equal, so that ties go to the lowest index on every device.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import triton
import triton.language as tl

from .tile_kernel import finish_logits, products_tile

ABSENT = tl.constexpr(-(2**31))
"""Below the key of every number, -inf included."""

UNDEFINED = tl.constexpr(2**31 - 1)
"""The key of a NaN, above that of every number."""


@triton.jit(do_not_specialize=["R", "K", "per_split"])
def search_kernel(
    region_ptr,  # (R, D)
    entity_ptr,  # (K, D)
    row_ptr,  # (R,) float32
    column_ptr,  # (K,) float32
    noise_ptr,  # (R, K) float32, or None
    seed_ptr,  # int64, or None
    key_ptr,  # (splits, R) int32
    index_ptr,  # (splits, R) int32
    R,
    K,
    D,
    per_split,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The best entity of each region among those of a split."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    split = tl.program_id(1)
    best = tl.full((ROWS,), ABSENT, tl.int32)
    index = tl.zeros((ROWS,), tl.int32)
    for j0 in range(split * per_split, tl.minimum((split + 1) * per_split, K), COLUMNS):
        j = j0 + tl.arange(0, COLUMNS)
        products = products_tile(region_ptr, entity_ptr, i, j, R, K, D, ROWS, COLUMNS, BLOCK_D)
        logits = finish_logits(products, row_ptr, column_ptr, noise_ptr, seed_ptr, i, j, R, K)
        bits = (logits + 0.0).to(tl.int32, bitcast=True)  # adding 0 makes -0 equal to +0
        keys = tl.where(logits == logits, bits ^ ((bits >> 31) & 0x7FFFFFFF), UNDEFINED)
        keys = tl.where((j < K)[None, :], keys, ABSENT)
        top, lowest = tl.max(keys, axis=1, return_indices=True)
        index = tl.where(top > best, j0 + lowest, index)
        best = tl.maximum(top, best)
    where = split.to(tl.int64) * R + i
    tl.store(key_ptr + where, best, mask=i < R)
    tl.store(index_ptr + where, index, mask=i < R)


@triton.jit(do_not_specialize=["R", "splits"])
def take_kernel(
    key_ptr,  # (splits, R) int32
    index_ptr,  # (splits, R) int32
    entity_ptr,  # (K, D)
    aligned_ptr,  # (R, D)
    chosen_ptr,  # (R,) int64
    best_ptr,  # (R,) float32
    R,
    D,
    splits,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The best of the splits, its logit and its row: NaN where the logit is."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    best = tl.full((ROWS,), ABSENT, tl.int32)
    index = tl.zeros((ROWS,), tl.int32)
    for split in range(splits):
        where = tl.zeros((ROWS,), tl.int64) + split * R + i
        key = tl.load(key_ptr + where, mask=i < R, other=ABSENT)
        index = tl.where(key > best, tl.load(index_ptr + where, mask=i < R, other=0), index)
        best = tl.maximum(key, best)
    logit = (best ^ ((best >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    once = (i < R) & (tl.program_id(1) == 0)
    tl.store(chosen_ptr + i, index.to(tl.int64), mask=once)
    tl.store(best_ptr + i, logit, mask=once)
    inside = (i < R)[:, None] & (d < D)[None, :]
    rows = tl.load(entity_ptr + index.to(tl.int64)[:, None] * D + d[None, :], mask=inside, other=0.0)
    rows = tl.where((best == UNDEFINED)[:, None], float("nan"), rows.to(tl.float32)).to(rows.dtype)
    tl.store(aligned_ptr + i.to(tl.int64)[:, None] * D + d[None, :], rows, mask=inside)
