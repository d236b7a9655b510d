"""The forward kernel of late interaction.

scores[b, c] = weight_v * mean_i max_j s[b, i, j] + weight_t * mean_j max_i s[b, i, j]
with s[b, i, j] = video[b, i] . text[j], for the valid frames i of video b and the prompts j of class c; without MEAN
the sums in place of the means.

A program owns some videos and some classes, so programs share no score. Its tile of similarities has VIDEOS * FRAMES
rows and CLASSES * SLOT columns; it passes over its longest class in steps of SLOT prompts and keeps the best prompt of
each frame from step to step. Videos of more than FRAMES frames (WIDE) take the products once for each direction.

Maxima are taken over integers that are ordered as the similarities are: a NaN is above all, as for torch.max, an absent
entry below all, and equal similarities are equal, so that ties go to the lowest index on every device.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import triton
import triton.language as tl

ABSENT = tl.constexpr(-(2**31))
"""Below the key of every number, -inf included."""

UNDEFINED = tl.constexpr(2**31 - 1)
"""The key of a NaN, above that of every number."""


@triton.jit(do_not_specialize=["B", "C"])
def forward_kernel(
    video_ptr,  # (B, V, D)
    text_ptr,  # (P, D)
    offsets_ptr,  # (C + 1,) int64
    order_ptr,  # (C,) int32, classes by length
    mask_ptr,  # (B, V) int32, or None
    counts_ptr,  # (B,) int32, valid frames, or None
    scores_ptr,  # (B, C) float32
    prompt_ptr,  # (C, V, B) int16
    frame_ptr,  # (P, B) int16
    B,
    C,
    V,
    D,
    weight_v,
    weight_t,
    USE_V: tl.constexpr,
    USE_T: tl.constexpr,
    SAVE_V: tl.constexpr,
    SAVE_T: tl.constexpr,
    MEAN: tl.constexpr,
    VIDEOS: tl.constexpr,
    FRAMES: tl.constexpr,
    CLASSES: tl.constexpr,
    SLOT: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WIDE: tl.constexpr,
):
    groups = tl.cdiv(B, VIDEOS)
    b0 = (tl.program_id(0) % groups) * VIDEOS
    c0 = (tl.program_id(0) // groups) * CLASSES
    b = b0 + tl.arange(0, VIDEOS)
    known = c0 + tl.arange(0, CLASSES) < C
    c = tl.load(order_ptr + c0 + tl.arange(0, CLASSES), mask=known, other=0)
    first = tl.load(offsets_ptr + c, mask=known, other=0)
    length = (tl.load(offsets_ptr + c + 1, mask=known, other=0) - first).to(tl.int32)
    longest = tl.max(length, axis=0)
    sum_v = tl.zeros((VIDEOS, CLASSES), tl.float32)
    sum_t = tl.zeros((VIDEOS, CLASSES), tl.float32)

    for f0 in range(0, V, FRAMES):  # once, unless WIDE
        best_v = tl.full((VIDEOS, FRAMES, CLASSES), ABSENT, tl.int32)
        prompt = tl.full((VIDEOS, FRAMES, CLASSES), -1, tl.int32)
        for j0 in range(0, longest, SLOT):
            keys = _keys(video_ptr, text_ptr, offsets_ptr, order_ptr, mask_ptr, b0, c0, f0, j0, B, C, V, D,
                         VIDEOS, FRAMES, CLASSES, SLOT, BLOCK_D)  # fmt: skip
            if SAVE_V:
                best, lowest = tl.max(keys, axis=3, return_indices=True)
                prompt = tl.where(best > best_v, j0 + lowest, prompt)
                best_v = tl.maximum(best, best_v)
            elif USE_V:
                best_v = tl.maximum(tl.max(keys, axis=3), best_v)
            if SAVE_T and not WIDE:
                best_t, frame = tl.max(keys, axis=1, return_indices=True)
                _store_frame(frame_ptr, frame, best_t, b, first, length, j0, B, SLOT)
                sum_t += tl.sum(_score(best_t), axis=2)
            elif USE_T and not WIDE:
                sum_t += tl.sum(_score(tl.max(keys, axis=1)), axis=2)
        if SAVE_V:
            _store_prompt(prompt_ptr, prompt, b, c, known, f0, B, V, FRAMES)
        if USE_V:
            sum_v += tl.sum(_score(best_v), axis=1)

    if (USE_T or SAVE_T) and WIDE:
        for j0 in range(0, longest, SLOT):
            best_t = tl.full((VIDEOS, CLASSES, SLOT), ABSENT, tl.int32)
            frame = tl.full((VIDEOS, CLASSES, SLOT), -1, tl.int32)
            for f0 in range(0, V, FRAMES):
                keys = _keys(video_ptr, text_ptr, offsets_ptr, order_ptr, mask_ptr, b0, c0, f0, j0, B, C, V, D,
                             VIDEOS, FRAMES, CLASSES, SLOT, BLOCK_D)  # fmt: skip
                best, lowest = tl.max(keys, axis=1, return_indices=True)
                frame = tl.where(best > best_t, f0 + lowest, frame)
                best_t = tl.maximum(best, best_t)
            if SAVE_T:
                _store_frame(frame_ptr, frame, best_t, b, first, length, j0, B, SLOT)
            sum_t += tl.sum(_score(best_t), axis=2)

    if MEAN:
        count = tl.zeros((VIDEOS,), tl.int32) + V
        if mask_ptr is not None:
            count = tl.maximum(tl.load(counts_ptr + b, mask=b < B, other=1), 1)
        sum_v = sum_v / count.to(tl.float32)[:, None]
        sum_t = sum_t / tl.maximum(length, 1).to(tl.float32)[None, :]
    score = tl.zeros((VIDEOS, CLASSES), tl.float32)
    if USE_V:
        score += weight_v * sum_v
    if USE_T:
        score += weight_t * sum_t
    where = b.to(tl.int64)[:, None] * C + c[None, :]
    tl.store(scores_ptr + where, score, mask=(b < B)[:, None] & known[None, :])


@triton.jit
def _keys(video_ptr, text_ptr, offsets_ptr, order_ptr, mask_ptr, b0, c0, f0, j0, B, C, V, D,
          VIDEOS: tl.constexpr, FRAMES: tl.constexpr, CLASSES: tl.constexpr, SLOT: tl.constexpr,
          BLOCK_D: tl.constexpr):  # fmt: skip
    """Keys (VIDEOS, FRAMES, CLASSES, SLOT): frames from f0 of videos from b0, prompts from j0 of classes from c0."""
    row = tl.arange(0, VIDEOS * FRAMES)
    b = b0 + row // FRAMES
    f = f0 + row % FRAMES
    frame = b.to(tl.int64) * V + f
    valid = (b < B) & (f < V)
    if mask_ptr is not None:
        valid = valid & (tl.load(mask_ptr + frame, mask=valid, other=0) != 0)
    column = tl.arange(0, CLASSES * SLOT)
    rank = c0 + column // SLOT
    c = tl.load(order_ptr + rank, mask=rank < C, other=0)
    prompt = tl.load(offsets_ptr + c, mask=rank < C, other=0) + j0 + column % SLOT
    present = prompt < tl.load(offsets_ptr + c + 1, mask=rank < C, other=0)

    products = tl.zeros((VIDEOS * FRAMES, CLASSES * SLOT), tl.float32)
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        x = tl.load(video_ptr + frame[:, None] * D + d[None, :], mask=valid[:, None] & (d < D)[None, :], other=0.0)
        y = tl.load(text_ptr + prompt[None, :] * D + d[:, None], mask=present[None, :] & (d < D)[:, None], other=0.0)
        products = tl.dot(x, y, products, input_precision="ieee")

    bits = (products + 0.0).to(tl.int32, bitcast=True)  # adding 0 makes -0 equal to +0
    keys = tl.where(products != products, UNDEFINED, bits ^ ((bits >> 31) & 0x7FFFFFFF))
    keys = tl.where(valid[:, None] & present[None, :], keys, ABSENT)
    return tl.reshape(keys, (VIDEOS, FRAMES, CLASSES, SLOT))


@triton.jit
def _score(keys):
    """The similarities of keys, 0 where absent."""
    bits = keys ^ ((keys >> 31) & 0x7FFFFFFF)
    return tl.where(keys == ABSENT, 0.0, bits.to(tl.float32, bitcast=True))


@triton.jit
def _store_prompt(prompt_ptr, prompt, b, c, known, f0, B, V, FRAMES: tl.constexpr):
    f = f0 + tl.arange(0, FRAMES)
    where = (c.to(tl.int64)[None, None, :] * V + f[None, :, None]) * B + b[:, None, None]
    mask = (b < B)[:, None, None] & (f < V)[None, :, None] & known[None, None, :]
    tl.store(prompt_ptr + where, prompt.to(tl.int16), mask=mask)


@triton.jit
def _store_frame(frame_ptr, frame, best, b, first, length, j0, B, SLOT: tl.constexpr):
    j = j0 + tl.arange(0, SLOT)
    where = (first[None, :, None] + j[None, None, :]) * B + b[:, None, None]
    mask = (b < B)[:, None, None] & (j[None, None, :] < length[None, :, None])
    tl.store(frame_ptr + where, tl.where(best == ABSENT, -1, frame).to(tl.int16), mask=mask)
