"""The backward kernels of late interaction.

The gradient of the similarities is zero but at the saved maxima:
pull[r, j] = grad[b, c] * (share_v[b] * [prompt[c, r] = j - first[c]] + share_t[c] * [frame[j, b] = i])
for frame r = (i, b) and prompt j of class c. Then  grad_video = pull . text  and  grad_text = pull^T . video,
two products whose left side is made from indices tile by tile and never stored. Each program sums in a fixed order.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["B", "P", "per_split"])
def video_gradient_kernel(
    grad_ptr,  # (C, B) float32
    text_ptr,  # (P, D)
    offsets_ptr,  # (C + 1,) int64
    owners_ptr,  # (P,) int32
    counts_ptr,  # (B,) int32, valid frames, or None
    prompt_ptr,  # (C, V, B) integers
    frame_ptr,  # (P, B) integers
    out_ptr,  # (splits, B, V, D) float32
    B,
    V,
    P,
    D,
    per_split,
    weight_v,
    weight_t,
    USE_V: tl.constexpr,
    USE_T: tl.constexpr,
    MEAN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    split = tl.program_id(2)
    total = tl.zeros((ROWS, BLOCK_D), tl.float32)
    for j0 in range(split * per_split, tl.minimum((split + 1) * per_split, P), COLUMNS):
        j = j0 + tl.arange(0, COLUMNS)
        pull = _pull(grad_ptr, offsets_ptr, owners_ptr, counts_ptr, prompt_ptr, frame_ptr, row[:, None], j[None, :],
                     B, V, P, weight_v, weight_t, USE_V, USE_T, MEAN)  # fmt: skip
        x = tl.load(
            text_ptr + j.to(tl.int64)[:, None] * D + d[None, :], mask=(j < P)[:, None] & (d < D)[None, :], other=0.0
        )
        total = _add_product(total, pull, x)
    frame = (split.to(tl.int64) * B + row % B) * V + row // B
    tl.store(out_ptr + frame[:, None] * D + d[None, :], total, mask=(row < V * B)[:, None] & (d < D)[None, :])


@triton.jit(do_not_specialize=["B", "P", "per_split"])
def text_gradient_kernel(
    grad_ptr,  # (C, B) float32
    video_ptr,  # (B, V, D)
    offsets_ptr,  # (C + 1,) int64
    owners_ptr,  # (P,) int32
    mask_ptr,  # (B, V) int32, or None
    counts_ptr,  # (B,) int32, valid frames, or None
    prompt_ptr,  # (C, V, B) integers
    frame_ptr,  # (P, B) integers
    out_ptr,  # (splits, P, D) float32
    B,
    V,
    P,
    D,
    per_split,
    weight_v,
    weight_t,
    USE_V: tl.constexpr,
    USE_T: tl.constexpr,
    MEAN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    j = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    split = tl.program_id(2)
    total = tl.zeros((COLUMNS, BLOCK_D), tl.float32)
    for r0 in range(split * per_split, tl.minimum((split + 1) * per_split, V * B), ROWS):
        row = r0 + tl.arange(0, ROWS)
        pull = _pull(grad_ptr, offsets_ptr, owners_ptr, counts_ptr, prompt_ptr, frame_ptr, row[None, :], j[:, None],
                     B, V, P, weight_v, weight_t, USE_V, USE_T, MEAN)  # fmt: skip
        frame = (row % B).to(tl.int64) * V + row // B
        valid = row < V * B
        if mask_ptr is not None:  # nothing pulls on an absent frame, but 0 times its NaN would
            valid = valid & (tl.load(mask_ptr + frame, mask=valid, other=0) != 0)
        x = tl.load(video_ptr + frame[:, None] * D + d[None, :], mask=valid[:, None] & (d < D)[None, :], other=0.0)
        total = _add_product(total, pull, x)
    where = (split.to(tl.int64) * P + j)[:, None] * D + d[None, :]
    tl.store(out_ptr + where, total, mask=(j < P)[:, None] & (d < D)[None, :])


@triton.jit
def _pull(grad_ptr, offsets_ptr, owners_ptr, counts_ptr, prompt_ptr, frame_ptr, row, j, B, V, P, weight_v, weight_t,
          USE_V: tl.constexpr, USE_T: tl.constexpr, MEAN: tl.constexpr):  # fmt: skip
    """The gradient of the similarities of frames `row` = i * B + b and prompts `j`, one of them along each axis."""
    b = row % B
    inside = (row < V * B) & (j < P)
    c = tl.load(owners_ptr + j, mask=j < P, other=0).to(tl.int64)
    first = tl.load(offsets_ptr + c)
    grad = tl.load(grad_ptr + c * B + b, mask=inside, other=0.0)
    pull = tl.zeros_like(grad)
    if USE_V:
        share = weight_v
        if MEAN:
            count = V
            if counts_ptr is not None:
                count = tl.maximum(tl.load(counts_ptr + b), 1)
            share = weight_v / count
        prompt = tl.load(prompt_ptr + c * (V * B) + row, mask=inside, other=-1)
        pull += tl.where(prompt == j - first, grad * share, 0.0)
    if USE_T:
        share = weight_t
        if MEAN:
            share = weight_t / (tl.load(offsets_ptr + c + 1) - first).to(tl.float32)
        frame = tl.load(frame_ptr + j.to(tl.int64) * B + b, mask=inside, other=-1)
        pull += tl.where(frame == row // B, grad * share, 0.0)
    return pull


@triton.jit
def _add_product(total, pull, x):
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
