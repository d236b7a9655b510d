"""Entity alignment on the CPU, in blocks of regions: the logits of all regions never exist.

The forward keeps the best logit of each region from block to block. The backward finds the logits of some regions and
all entities again, in one product with the pull of their upstream gradients, and makes both into the gradient of the
logits in place.

R regions, K entities, D width; in a block, r regions and k entities.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .noise import exponential_noise, gumbel_noise, noise_keys
from .problem import Problem, across, inverse_lengths, wide

FORWARD_BLOCK = 256, 4096
"""Regions and entities whose logits the forward finds at a time."""

BACKWARD_ELEMENTS = 1 << 22
"""Most logits and pulls that the backward holds: of some regions and all entities."""

STEP = 4096
"""Entities that one pass over a block takes at a time: what it makes on the way stays in the caches."""

GROUP = 64
"""Neighbouring logits of which the maximum is found before its place."""


class _Sides(NamedTuple):
    """Both sides in the wide dtype, what makes logits of their products, and the keys of their noise."""

    region_RD: Tensor
    entity_KD: Tensor
    row_R: Tensor
    """The scale over the length of the region."""
    column_K: Tensor
    """1 over the length of the entity."""
    keys: tuple[Tensor, Tensor] | None


def forward(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Aligned entities (R, D), their indices (R,) int64, and their logits (R,) in the wide dtype."""
    R, K, _ = problem.sizes
    sides = _sides(problem)
    best_R = sides.row_R.new_full((R,), -torch.inf)
    index_R = torch.zeros(R, dtype=torch.int64)
    for rows in _blocks(R, FORWARD_BLOCK[0]):
        scaled_rD = sides.region_RD[rows] * sides.row_R[rows, None]
        for columns in _blocks(K, FORWARD_BLOCK[1]):
            logits_rk = scaled_rD @ sides.entity_KD[columns].T
            _to_logits(problem, sides, logits_rk, rows, columns)
            top_r, place_r = _first_maximum(logits_rk)
            better_r = (top_r > best_R[rows]) | (top_r.isnan() & ~best_R[rows].isnan())
            best_R[rows] = torch.where(better_r, top_r, best_R[rows])
            index_R[rows] = torch.where(better_r, place_r + columns.start, index_R[rows])
    aligned_RD = problem.entity_KD.index_select(0, index_R)
    return aligned_RD.masked_fill_(best_R.isnan()[:, None], torch.nan), index_R, best_R


def backward(
    problem: Problem, index_R: Tensor, best_R: Tensor, grad_RD: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the regions, the entities and the scale, each where `wanted` (else empty)."""
    R, K, _ = problem.sizes
    sides = _sides(problem)
    grad_RD = grad_RD.to(sides.region_RD.dtype)
    pulled_RD = torch.empty_like(sides.region_RD)
    pulled_KD = torch.zeros_like(sides.entity_KD) if wanted[1] else grad_RD.new_empty(0)
    size = max(1, min(R, BACKWARD_ELEMENTS // (2 * K)))
    products_2rK = sides.row_R.new_empty((2 * size, K))  # memory that is handed out anew costs page faults
    for rows in _blocks(R, size):
        scaled_rD = sides.region_RD[rows] * sides.row_R[rows, None]
        both_2rD = torch.cat([scaled_rD, grad_RD[rows]])
        torch.mm(both_2rD, sides.entity_KD.T, out=products_2rK[: len(both_2rD)])
        pull_rK, total_r1 = _pull(problem, sides, products_2rK[: len(both_2rD)], best_R[rows], rows)
        if wanted[0] or wanted[2]:
            torch.mm(pull_rK, sides.entity_KD, out=pulled_RD[rows]).div_(total_r1)
        if wanted[1]:
            pulled_KD.addmm_(pull_rK.T, scaled_rD.div_(total_r1))
    unit_RD = sides.region_RD * inverse_lengths(problem.region_RD)[:, None]
    grad_scale = (unit_RD * pulled_RD).sum() if wanted[2] else grad_RD.new_empty(0)
    if wanted[1]:
        pulled_KD = across(pulled_KD, sides.entity_KD * sides.column_K[:, None]).index_add_(0, index_R, grad_RD)
    pulled_RD.mul_(sides.row_R[:, None])
    grad_region_RD = across(pulled_RD, unit_RD) if wanted[0] else grad_RD.new_empty(0)
    return grad_region_RD.to(problem.region_RD.dtype), pulled_KD.to(problem.entity_KD.dtype), grad_scale


def _pull(problem: Problem, sides: _Sides, products_2rK: Tensor, best_r: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """The gradient (r, K) of a block's products, times the total (r, 1) of the softmax, which it is to lose.

    `products_2rK` are those of the scaled regions, then of their upstream gradients; both are overwritten.
    """
    share_rK, pull_rK = products_2rK.chunk(2)
    total_r1 = torch.zeros_like(best_r[:, None])
    mean_r1 = torch.zeros_like(total_r1)
    steps = list(_blocks(share_rK.shape[1], STEP))
    for step in steps:
        share_rk = _to_shares(problem, sides, share_rK[:, step], best_r[:, None], rows, step)
        total_r1 += share_rk.sum(1, keepdim=True)
        mean_r1 += (share_rk * pull_rK[:, step]).sum(1, keepdim=True)
    mean_r1 /= total_r1
    for step in steps:
        pull_rK[:, step].sub_(mean_r1).mul_(share_rK[:, step]).mul_(sides.column_K[step])
    return pull_rK, total_r1


def _sides(problem: Problem) -> _Sides:
    R, K, _ = problem.sizes
    dtype = wide(problem.region_RD.dtype)
    return _Sides(
        region_RD=problem.region_RD.to(dtype),
        entity_KD=problem.entity_KD.to(dtype),
        row_R=inverse_lengths(problem.region_RD) * problem.scale,
        column_K=inverse_lengths(problem.entity_KD),
        keys=None if problem.seed is None else noise_keys(problem.seed, R, K),
    )


def _to_logits(problem: Problem, sides: _Sides, products_rk: Tensor, rows: slice, columns: slice) -> None:
    """Make logits of the products of scaled regions and entities, in place."""
    column_k = sides.column_K[columns]
    if problem.noise_RK is not None:
        torch.addcmul(problem.noise_RK[rows, columns], products_rk, column_k, out=products_rk)
    elif sides.keys is not None:
        row_R, column_K = sides.keys
        noise_rk = gumbel_noise(row_R[rows], column_K[columns], products_rk.dtype)
        torch.addcmul(noise_rk, products_rk, column_k, out=products_rk)
    else:
        products_rk.mul_(column_k)


def _to_shares(
    problem: Problem, sides: _Sides, products_rk: Tensor, best_r1: Tensor, rows: slice, columns: slice
) -> Tensor:
    """Make exp(logits - best) of the products of scaled regions and entities, in place."""
    if problem.noise_RK is not None:
        _to_logits(problem, sides, products_rk, rows, columns)
        return products_rk.sub_(best_r1).exp_()
    torch.addcmul(-best_r1, products_rk, sides.column_K[columns], out=products_rk).exp_()
    if sides.keys is not None:
        row_R, column_K = sides.keys
        products_rk.div_(exponential_noise(row_R[rows], column_K[columns], products_rk.dtype))
    return products_rk


def _first_maximum(logits_rk: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum of each row and its lowest place; a NaN is the maximum.

    torch.max goes one element at a time; the maxima of groups are found a vector at a time.
    """
    r, k = logits_rk.shape
    if k % GROUP:
        top_r, place_r = logits_rk.max(1)
        return top_r, place_r
    groups_rgG = logits_rk.view(r, -1, GROUP)
    top_r, group_r = groups_rgG.amax(2).max(1)
    inside_r = groups_rgG[torch.arange(r), group_r].argmax(1)
    return top_r, group_r * GROUP + inside_r


def _blocks(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
