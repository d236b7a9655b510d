"""The kernels of the loss: scores exist as tiles only, in the forward and again in the backward.

score[b, c] = factor[b] * video[b] . mean[c],   factor[b] = scale / |video[b]|
own[b]      = video[b] . negative[group[b]] / |video[b]|,   of score scale * own[b]
top[b]      = the highest of the scores
sum[b]      = sum over c of exp(score[b, c] - top[b]) + exp(scale * own[b] - top[b])
lse[b]      = top[b] + log(sum[b])
loss[b]     = lse[b] - (1 - smoothing) * score[b, target[b]] - smoothing / C * sum over c of score[b, c]

With g the gradient of loss[b] (0 where ignored) and h that of lse[b]:
pull[b, c]  = (g + h) / sum[b] * exp(score[b, c] - top[b]) - g * ((1 - smoothing) * [c = target[b]] + smoothing / C)
pull_own[b] = (g + h) / sum[b] * exp(scale * own[b] - top[b])

Each program sums in a fixed order. A video that nothing pulls on is not read.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import triton
import triton.language as tl

from .product_kernel import products


@triton.jit(do_not_specialize=["B", "C", "per_split", "splits"])
def statistics_kernel(
    video_ptr,  # (B, D)
    means_ptr,  # (C, D) float32
    scale_ptr,  # float32
    inverse_ptr,  # (B,) float32
    target_ptr,  # (B,) int64
    parts_ptr,  # (4, splits, B) float32: maximum, sum of exponentials below it, score of the target, sum of scores
    B,
    C,
    D,
    per_split,
    splits,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # b * D can pass 2**31
    split = tl.program_id(1)
    factor = tl.load(scale_ptr) * tl.load(inverse_ptr + b, mask=b < B, other=0.0)
    target = tl.load(target_ptr + b, mask=b < B, other=-1)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    exponentials = tl.zeros((ROWS,), tl.float32)
    of_target = tl.zeros((ROWS,), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for c0 in range(split * per_split, tl.minimum((split + 1) * per_split, C), CLASSES):
        c = c0 + tl.arange(0, CLASSES).to(tl.int64)
        score = factor[:, None] * products(video_ptr, means_ptr, b, b < B, c, C, D, ROWS, CLASSES, BLOCK_D)
        here = (c < C)[None, :]
        of_target += tl.sum(tl.where(here & (c[None, :] == target[:, None]), score, 0.0), axis=1)
        total += tl.sum(tl.where(here, score, 0.0), axis=1)
        score = tl.where(here, score, float("-inf"))
        new = tl.maximum(top, tl.max(score, axis=1))
        base = tl.where(new == float("-inf"), 0.0, new)
        exponentials = exponentials * tl.exp(top - base) + tl.sum(tl.exp(score - base[:, None]), axis=1)
        top = new
    part = parts_ptr + split.to(tl.int64) * B + b
    step = splits.to(tl.int64) * B
    tl.store(part, top, mask=b < B)
    tl.store(part + step, exponentials, mask=b < B)
    tl.store(part + 2 * step, of_target, mask=b < B)
    tl.store(part + 3 * step, total, mask=b < B)


@triton.jit(do_not_specialize=["B", "C", "G", "splits", "ignore"])
def combine_kernel(
    parts_ptr,  # (4, splits, B) float32
    video_ptr,  # (B, D)
    negatives_ptr,  # (G, D) float32, or None
    group_ptr,  # (B,) int64, or None: the group of video b is b
    scale_ptr,  # float32
    inverse_ptr,  # (B,) float32
    target_ptr,  # (B,) int64
    loss_ptr,  # (B,) float32
    lse_ptr,  # (B,) float32
    own_ptr,  # (B,) float32
    top_ptr,  # (B,) float32
    sum_ptr,  # (B,) float32
    B,
    C,
    G,
    D,
    splits,
    ignore,
    smoothing,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    known = b < B
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    exponentials = tl.zeros((ROWS,), tl.float32)
    of_target = tl.zeros((ROWS,), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    step = splits.to(tl.int64) * B
    part = parts_ptr + b
    for _ in range(0, splits):
        top, exponentials = _join(top, exponentials, tl.load(part, mask=known, other=0.0),
                                  tl.load(part + step, mask=known, other=1.0))  # fmt: skip
        of_target += tl.load(part + 2 * step, mask=known, other=0.0)
        total += tl.load(part + 3 * step, mask=known, other=0.0)
        part += B
    if negatives_ptr is not None:
        group = b
        if group_ptr is not None:
            group = tl.load(group_ptr + b, mask=known, other=-1)
        has = known & (group >= 0) & (group < G)
        own = tl.zeros((ROWS,), tl.float32)
        for d0 in range(0, D, BLOCK_D):
            d = d0 + tl.arange(0, BLOCK_D)
            mask = has[:, None] & (d < D)[None, :]
            x = tl.load(video_ptr + b[:, None] * D + d[None, :], mask=mask, other=0.0).to(tl.float32)
            own += tl.sum(x * tl.load(negatives_ptr + group[:, None] * D + d[None, :], mask=mask, other=0.0), axis=1)
        own = own * tl.load(inverse_ptr + b, mask=known, other=0.0)
        tl.store(own_ptr + b, own, mask=known)
        score = tl.where(has, own * tl.load(scale_ptr), tl.where(group == -1, float("-inf"), float("nan")))
        top, exponentials = _join(top, exponentials, score, tl.full((ROWS,), 1.0, tl.float32))
    below = tl.log(exponentials)
    target = tl.load(target_ptr + b, mask=known, other=0)
    loss = below + (top - (1 - smoothing) * of_target - smoothing * total / C)  # top and the score of the target cancel
    loss = tl.where((target >= 0) & (target < C), loss, float("nan"))
    tl.store(top_ptr + b, top, mask=known)
    tl.store(sum_ptr + b, exponentials, mask=known)
    tl.store(lse_ptr + b, below + tl.where(top == float("-inf"), 0.0, top), mask=known)
    tl.store(loss_ptr + b, tl.where(target == ignore, 0.0, loss), mask=known)


@triton.jit
def _join(top, exponentials, other_top, other_exponentials):
    """Maximum and sum of exponentials below it of two parts together."""
    new = tl.maximum(top, other_top)
    base = tl.where(new == float("-inf"), 0.0, new)
    return new, exponentials * tl.exp(top - base) + other_exponentials * tl.exp(other_top - base)


@triton.jit(do_not_specialize=["first", "B", "C", "ignore"])
def pull_kernel(
    video_ptr,  # (B, D)
    means_ptr,  # (C, D) float32
    scale_ptr,  # float32
    inverse_ptr,  # (B,) float32
    target_ptr,  # (B,) int64
    top_ptr,  # (B,) float32
    sum_ptr,  # (B,) float32
    own_ptr,  # (B,) float32, or None: no negatives
    group_ptr,  # (B,) int64, or None
    grad_loss_ptr,  # (B,) float32
    grad_lse_ptr,  # (B,) float32
    pull_ptr,  # (end - first, C) float32
    factor_ptr,  # (B,) float32: factor[b], 0 where nothing pulls
    own_pull_ptr,  # (B,) float32, or None: no negatives
    scale_parts_ptr,  # (blocks of classes + 1, B) float32: what adds up to the gradient of the scale
    first,  # this program's videos begin here
    end,
    B,
    C,
    D,
    ignore,
    smoothing,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    b = first.to(tl.int64) + row
    known = b < end
    c = tl.program_id(1).to(tl.int64) * CLASSES + tl.arange(0, CLASSES)
    target = tl.load(target_ptr + b, mask=known, other=0)
    grad_loss = tl.load(grad_loss_ptr + b, mask=known, other=0.0)
    grad_loss = tl.where(target == ignore, 0.0, grad_loss)
    grad_lse = tl.load(grad_lse_ptr + b, mask=known, other=0.0)
    pulled = known & ((grad_loss != 0) | (grad_lse != 0))
    grad_lse += grad_loss
    wrong = (target != ignore) & ((target < 0) | (target >= C))
    grad_lse = tl.where(wrong, float("nan"), grad_lse)
    inverse = tl.load(inverse_ptr + b, mask=pulled, other=0.0)
    top = tl.load(top_ptr + b, mask=pulled, other=0.0)
    share = tl.div_rn(grad_lse, tl.load(sum_ptr + b, mask=pulled, other=1.0))
    scale = tl.load(scale_ptr)

    similarity = products(video_ptr, means_ptr, b, pulled, c, C, D, ROWS, CLASSES, BLOCK_D) * inverse[:, None]
    pull = share[:, None] * tl.exp(scale * similarity - top[:, None]) - (smoothing * grad_loss / C)[:, None]
    pull -= tl.where(c[None, :] == target[:, None], ((1 - smoothing) * grad_loss)[:, None], 0.0)
    pull = tl.where(pulled[:, None] & (c < C)[None, :], pull, 0.0)
    tl.store(pull_ptr + row.to(tl.int64)[:, None] * C + c[None, :], pull, mask=known[:, None] & (c < C)[None, :])
    part = scale_parts_ptr + tl.program_id(1).to(tl.int64) * B + b
    tl.store(part, tl.sum(pull * similarity, axis=1), mask=known)

    if tl.program_id(1) == 0:
        tl.store(factor_ptr + b, scale * inverse, mask=known)
        last = scale_parts_ptr + tl.num_programs(1).to(tl.int64) * B + b
        if own_ptr is not None:
            has = pulled
            if group_ptr is not None:
                has = has & (tl.load(group_ptr + b, mask=known, other=-1) != -1)
            own = tl.load(own_ptr + b, mask=has, other=0.0)
            own_pull = tl.where(has, share * tl.exp(scale * own - top), 0.0)
            tl.store(own_pull_ptr + b, own_pull, mask=known)
            tl.store(last, own_pull * own, mask=known)
        else:
            tl.store(last, tl.zeros((ROWS,), tl.float32), mask=known)


@triton.jit(do_not_specialize=["B", "G"])
def video_gradient_kernel(
    pull_ptr,  # (B, D) float32: what the classes pull the unit video to
    video_ptr,  # (B, D)
    negatives_ptr,  # (G, D) float32, or None
    group_ptr,  # (B,) int64, or None: the group of video b is b
    own_pull_ptr,  # (B,) float32, or None
    factor_ptr,  # (B,) float32, those of factor 0 are not read
    inverse_ptr,  # (B,) float32
    out_ptr,  # (B, D)
    B,
    G,
    D,
    NORMALIZE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    factor = tl.load(factor_ptr + b, mask=b < B, other=0.0)
    known = (b < B) & (factor != 0)
    own_pull = tl.zeros((ROWS,), tl.float32)
    group = b
    if negatives_ptr is not None:
        own_pull = tl.load(own_pull_ptr + b, mask=known, other=0.0)
        if group_ptr is not None:
            group = tl.load(group_ptr + b, mask=known, other=-1)
    has = known & (group >= 0) & (group < G)
    along = tl.zeros((ROWS,), tl.float32)
    if NORMALIZE:
        for d0 in range(0, D, BLOCK_D):
            d = d0 + tl.arange(0, BLOCK_D)
            pull = _total_pull(pull_ptr, negatives_ptr, b, known, group, has, own_pull, d, D)
            x = tl.load(video_ptr + b[:, None] * D + d[None, :], mask=known[:, None] & (d < D)[None, :], other=0.0)
            along += tl.sum(x.to(tl.float32) * pull, axis=1)
        inverse = tl.load(inverse_ptr + b, mask=known, other=0.0)
        along = along * inverse * inverse
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        out = _total_pull(pull_ptr, negatives_ptr, b, known, group, has, own_pull, d, D)
        if NORMALIZE:
            x = tl.load(video_ptr + b[:, None] * D + d[None, :], mask=known[:, None] & (d < D)[None, :], other=0.0)
            out -= along[:, None] * x.to(tl.float32)
        out = factor[:, None] * out
        tl.store(out_ptr + b[:, None] * D + d[None, :], out, mask=(b < B)[:, None] & (d < D)[None, :])


@triton.jit
def _total_pull(pull_ptr, negatives_ptr, b, known, group, has, own_pull, d, D):
    pull = tl.load(pull_ptr + b[:, None] * D + d[None, :], mask=known[:, None] & (d < D)[None, :], other=0.0)
    if negatives_ptr is not None:
        negative = tl.load(
            negatives_ptr + group[:, None] * D + d[None, :], mask=has[:, None] & (d < D)[None, :], other=0.0
        )
        pull += own_pull[:, None] * negative
    return pull
