"""The matching kernels of token merging.

similarity[e, o] = metric[2 e] . metric[2 o + 1] / (|metric[2 e]| |metric[2 o + 1]|)
partner[e]       = the odd token o that is most similar to the even token e
merges[e]        = e is among the r even tokens most similar to their partner

Similarities exist as tiles only. Who is among the r best, and where each token goes, is found by counting: how many
are better, how many stay before it, how many go to the same partner. So nothing is sorted, and no program waits for
another.

Maxima are taken over integers that are ordered as the similarities are: a NaN is below every number, what is absent
below a NaN, and equal similarities are equal, so that ties go to the lowest index on every device.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import triton
import triton.language as tl

ABSENT = tl.constexpr(-(2**31))
"""Below the key of a NaN."""

UNDEFINED = tl.constexpr(-(2**31) + 1)
"""The key of a NaN, below that of every number, -inf included."""


@triton.jit(do_not_specialize=["N", "start"])
def match_kernel(
    metric_ptr,  # (B, N, K)
    key_ptr,  # (B, E) int32
    partner_ptr,  # (B, E) int32
    N,
    K,
    start,  # the first odd token that may receive
    EVEN: tl.constexpr,
    ODD: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    E = (N + 1) // 2
    O = N // 2  # noqa: E741
    blocks = tl.cdiv(E, EVEN)
    b = (tl.program_id(0) // blocks).to(tl.int64)  # b * N * K can pass 2**31
    e = (tl.program_id(0) % blocks) * EVEN + tl.arange(0, EVEN)
    even = b * N + 2 * e
    square_e = tl.zeros((EVEN,), tl.float32)
    for k0 in range(0, K, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        x = tl.load(metric_ptr + even[:, None] * K + k[None, :], mask=(e < E)[:, None] & (k < K)[None, :], other=0.0)
        square_e += tl.sum(x.to(tl.float32) * x.to(tl.float32), axis=1)
    scale_e = _inverse_root(square_e)

    best = tl.full((EVEN,), ABSENT, tl.int32)
    partner = tl.zeros((EVEN,), tl.int32)
    for o0 in range(start, O, ODD):
        o = o0 + tl.arange(0, ODD)
        odd = b * N + 2 * o + 1
        products = tl.zeros((EVEN, ODD), tl.float32)
        square_o = tl.zeros((ODD,), tl.float32)
        for k0 in range(0, K, BLOCK_K):
            k = k0 + tl.arange(0, BLOCK_K)
            x = tl.load(
                metric_ptr + even[:, None] * K + k[None, :], mask=(e < E)[:, None] & (k < K)[None, :], other=0.0
            )
            y = tl.load(metric_ptr + odd[None, :] * K + k[:, None], mask=(o < O)[None, :] & (k < K)[:, None], other=0.0)
            products = tl.dot(x, y, products, input_precision="ieee")
            square_o += tl.sum(y.to(tl.float32) * y.to(tl.float32), axis=0)
        similarity = products * scale_e[:, None] * _inverse_root(square_o)[None, :]
        bits = (similarity + 0.0).to(tl.int32, bitcast=True)  # adding 0 makes -0 equal to +0
        keys = tl.where(similarity == similarity, bits ^ ((bits >> 31) & 0x7FFFFFFF), UNDEFINED)
        keys = tl.where((o < O)[None, :], keys, ABSENT)
        top, lowest = tl.max(keys, axis=1, return_indices=True)
        partner = tl.where(top > best, o0 + lowest, partner)
        best = tl.maximum(top, best)
    tl.store(key_ptr + b * E + e, best, mask=e < E)
    tl.store(partner_ptr + b * E + e, partner, mask=e < E)


@triton.jit
def _inverse_root(square):
    """1 / sqrt(square); 0 for 0, NaN for what is not finite."""
    known = (square > 0) & (square < float("inf"))
    return tl.where(known, tl.rsqrt(tl.where(known, square, 1.0)), tl.where(square == 0, 0.0, float("nan")))


@triton.jit(do_not_specialize=["E", "start"])
def rank_kernel(
    key_ptr,  # (B, E) int32
    rank_ptr,  # (B, E) int32
    E,
    start,  # the first even token that may merge
    BLOCK: tl.constexpr,
):
    """How many even tokens come before each: those of a higher key, and those of the same at a lower position."""
    blocks = tl.cdiv(E, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64) * E
    e = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(key_ptr + row + e, mask=e < E, other=0)
    rank = tl.zeros((BLOCK,), tl.int32)
    for f0 in range(0, E, BLOCK):
        f = f0 + tl.arange(0, BLOCK)
        other = tl.load(key_ptr + row + f, mask=f < E, other=0)
        ahead = (other[None, :] > key[:, None]) | ((other[None, :] == key[:, None]) & (f[None, :] < e[:, None]))
        rank += tl.sum((ahead & (f >= start)[None, :] & (f < E)[None, :]).to(tl.int32), axis=1)
    tl.store(rank_ptr + row + e, tl.where(e < start, E, rank), mask=e < E)


@triton.jit(do_not_specialize=["N", "r"])
def place_kernel(
    rank_ptr,  # (B, E) int32
    partner_ptr,  # (B, E) int32
    target_ptr,  # (B, N) int32
    order_ptr,  # (B, N) int32
    offsets_ptr,  # (B, N - r + 1) int32
    N,
    r,
    BLOCK: tl.constexpr,
):
    """Where the even and the odd tokens of a block go, and from where in the order their merged token is made."""
    E = (N + 1) // 2
    blocks = tl.cdiv(E, BLOCK)
    b = (tl.program_id(0) // blocks).to(tl.int64)
    e = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)  # the e-th even token, and the e-th odd one
    merges = tl.load(rank_ptr + b * E + e, mask=e < E, other=N) < r
    partner = tl.load(partner_ptr + b * E + e, mask=e < E, other=0)
    gone = tl.zeros((BLOCK,), tl.int32)  # even tokens before this one that merge
    below_partner = tl.zeros((BLOCK,), tl.int32)  # even tokens that merge into an odd one before the partner
    mates = tl.zeros((BLOCK,), tl.int32)  # even tokens before this one that merge into the same partner
    below_odd = tl.zeros((BLOCK,), tl.int32)  # even tokens that merge into an odd one before this odd one
    into_odd = tl.zeros((BLOCK,), tl.int32)  # even tokens before this odd one that merge into it
    for f0 in range(0, E, BLOCK):
        f = f0 + tl.arange(0, BLOCK)
        others = (tl.load(rank_ptr + b * E + f, mask=f < E, other=N) < r)[None, :]
        theirs = tl.load(partner_ptr + b * E + f, mask=f < E, other=0)[None, :]
        before = f[None, :] < e[:, None]
        gone += tl.sum((others & before).to(tl.int32), axis=1)
        below_partner += tl.sum((others & (theirs < partner[:, None])).to(tl.int32), axis=1)
        mates += tl.sum((others & before & (theirs == partner[:, None])).to(tl.int32), axis=1)
        below_odd += tl.sum((others & (theirs < e[:, None])).to(tl.int32), axis=1)
        into_odd += tl.sum((others & (f[None, :] <= e[:, None]) & (theirs == e[:, None])).to(tl.int32), axis=1)

    kept = E - r
    target = tl.where(merges, kept + partner, e - gone)
    mates += (partner < e).to(tl.int32)  # the partner itself, where it stands before this token
    place = tl.where(merges, target + below_partner + mates, target)
    begin = kept + e + below_odd  # of the odd token's tokens in the order
    offsets = offsets_ptr + b * (N - r + 1)
    tl.store(target_ptr + b * N + 2 * e, target, mask=e < E)
    tl.store(order_ptr + b * N + place, 2 * e, mask=e < E)
    tl.store(offsets + target, target, mask=(e < E) & ~merges)
    odd = 2 * e + 1
    tl.store(target_ptr + b * N + odd, kept + e, mask=odd < N)
    tl.store(order_ptr + b * N + begin + into_odd, odd, mask=odd < N)
    tl.store(offsets + kept + e, begin, mask=odd < N)
    tl.store(offsets + N - r + e, N, mask=e == 0)
