"""What the kernels of entity alignment share: tiles of logits, of their noise, and products with narrow operands.

logits[i, j] = row[i] * column[j] * region[i] . entity[j] + noise[i, j]
with row = scale / length of the region and column = 1 / length of the entity.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import triton
import triton.language as tl

from . import noise

ROW_STREAM = tl.constexpr(noise.ROW_STREAM)
COLUMN_STREAM = tl.constexpr(noise.COLUMN_STREAM)
FIRST = tl.constexpr(noise.FIRST)
SECOND = tl.constexpr(noise.SECOND)
DROPPED = tl.constexpr(32 - noise.BITS)
UNIT = tl.constexpr(2.0**-noise.BITS)
HALF_UNIT = tl.constexpr(2.0 ** -(noise.BITS + 1))


@triton.jit
def products_tile(region_ptr, entity_ptr, i, j, R, K, D, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
                  BLOCK_D: tl.constexpr):  # fmt: skip
    """(ROWS, COLUMNS): region[i] . entity[j]."""
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        x = _load_rows(region_ptr, i[:, None], d[None, :], R, D)
        y = _load_rows(entity_ptr, j[None, :], d[:, None], K, D)
        products = tl.dot(x, y, products, input_precision="ieee")
    return products


@triton.jit
def both_products_tile(region_ptr, grad_ptr, entity_ptr, i, j, R, K, D, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
                       BLOCK_D: tl.constexpr):  # fmt: skip
    """Twice (ROWS, COLUMNS): region[i] . entity[j] and grad[i] . entity[j]."""
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    pulls = tl.zeros((ROWS, COLUMNS), tl.float32)
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        y = _load_rows(entity_ptr, j[None, :], d[:, None], K, D)
        x = _load_rows(region_ptr, i[:, None], d[None, :], R, D)
        products = tl.dot(x, y, products, input_precision="ieee")
        g = _load_rows(grad_ptr, i[:, None], d[None, :], R, D)
        pulls = tl.dot(g, y, pulls, input_precision="ieee")
    return products, pulls


@triton.jit
def _load_rows(rows_ptr, x, d, X, D):
    return tl.load(rows_ptr + x.to(tl.int64) * D + d, mask=(x < X) & (d < D), other=0.0)


@triton.jit
def finish_logits(products, row_ptr, column_ptr, noise_ptr, seed_ptr, i, j, R, K):
    """Logits of products."""
    row = tl.load(row_ptr + i, mask=i < R, other=0.0)
    column = tl.load(column_ptr + j, mask=j < K, other=0.0)
    logits = products * row[:, None] * column[None, :]
    if noise_ptr is not None:
        where = i.to(tl.int64)[:, None] * K + j[None, :]
        logits += tl.load(noise_ptr + where, mask=(i < R)[:, None] & (j < K)[None, :], other=0.0)
    if seed_ptr is not None:
        logits += gumbel_tile(seed_ptr, i, j)
    return logits


@triton.jit
def gumbel_tile(seed_ptr, i, j):
    """(ROWS, COLUMNS) of noise, as noise.py makes it."""
    bits = _keys(seed_ptr, i, ROW_STREAM)[:, None] ^ _keys(seed_ptr, j, COLUMN_STREAM)[None, :]
    bits = bits * FIRST
    bits = (bits ^ (bits >> 15)) * SECOND
    uniform = (bits >> DROPPED).to(tl.int32).to(tl.float32) * UNIT + HALF_UNIT  # without rounding
    return -tl.log(-tl.log(uniform))


@triton.jit
def _keys(seed_ptr, index, STREAM: tl.constexpr):
    seed = tl.load(seed_ptr + tl.zeros_like(index))
    inner = _mix((seed >> 32).to(tl.uint32) ^ STREAM)
    return _mix(index.to(tl.uint32) ^ _mix(seed.to(tl.uint32) ^ inner))


@triton.jit
def _mix(x):
    x = (x ^ (x >> 16)) * FIRST
    x = (x ^ (x >> 15)) * SECOND
    return x ^ (x >> 15)


@triton.jit
def add_product(total, pull, x):
    """Add pull . x to the total. For narrow dtypes `pull` keeps 16 bits, more than the gradient will."""
    if x.dtype == tl.bfloat16:
        high = pull.to(tl.bfloat16)
        low = (pull - high.to(tl.float32)).to(tl.bfloat16)
        total = tl.dot(low, x, tl.dot(high, x, total))
    elif x.dtype == tl.float16:  # which could not hold a small gradient, but two bfloat16 hold it
        high = pull.to(tl.bfloat16)
        low = (pull - high.to(tl.float32)).to(tl.bfloat16)
        x_high = x.to(tl.bfloat16)
        x_low = (x.to(tl.float32) - x_high.to(tl.float32)).to(tl.bfloat16)
        total = tl.dot(low, x_high, tl.dot(high, x_low, tl.dot(high, x_high, total)))
    else:
        total = tl.dot(pull, x, total, input_precision="ieee")
    return total
