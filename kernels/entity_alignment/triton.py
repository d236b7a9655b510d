"""Entity alignment on Triton: what is launched. The kernels are in forward_kernel and backward_kernel.

R regions, K entities, D width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..launch import Launch, architecture
from .backward_kernel import entity_kernel, mean_kernel, pull_kernel, region_kernel
from .forward_kernel import search_kernel, take_kernel
from .problem import Problem, across, inverse_lengths


@dataclass(frozen=True)
class Tiles:
    """One kernel's tile and how it runs."""

    rows: int
    columns: int
    """Entities beside regions; in the last products what one step sums over."""
    depth: int
    """Part of the width D: what one step sums over in the first products, a tile's own width in the last."""
    warps: int
    stages: int


SEARCH = {
    (80, 16): Tiles(64, 64, 32, 8, 3),
    (90, 16): Tiles(64, 64, 64, 8, 3),
    (100, 16): Tiles(64, 64, 64, 8, 3),
    (80, 32): Tiles(64, 64, 32, 8, 1),
    (90, 32): Tiles(64, 64, 32, 8, 1),
    (100, 32): Tiles(64, 64, 32, 8, 1),
}
"""By architecture and bits of an element. 32 bits are IEEE float32, which no tensor core multiplies."""

PULL = {
    (80, 16): Tiles(64, 64, 32, 8, 2),
    (90, 16): Tiles(64, 64, 32, 8, 2),
    (100, 16): Tiles(64, 64, 32, 8, 2),
    (80, 32): Tiles(32, 64, 32, 8, 1),
    (90, 32): Tiles(32, 64, 32, 8, 1),
    (100, 32): Tiles(32, 64, 16, 8, 1),
}

PRODUCT = {
    (80, 16): Tiles(64, 32, 64, 4, 2),
    (90, 16): Tiles(64, 64, 64, 8, 2),
    (100, 16): Tiles(64, 64, 64, 8, 2),
    (80, 32): Tiles(64, 32, 64, 8, 1),
    (90, 32): Tiles(64, 32, 64, 8, 1),
    (100, 32): Tiles(64, 32, 64, 8, 1),
}

PROGRAMS = 256
"""Programs that keep a device busy: a search of fewer tiles shares out the entities, in at most `MAX_SPLITS` parts."""

MAX_SPLITS = 16

WORK_ELEMENTS = 1 << 24
"""Most gradients of logits that exist at a time: those of all regions and some entities, unless one tile has more."""

TAKE_ROWS, TAKE_ELEMENTS = 8, 256
"""Regions, and elements of each row, that a program gathers."""


class Scales(NamedTuple):
    """What makes logits of products, float32."""

    row_R: Tensor
    """The scale over the length of the region."""
    column_K: Tensor
    """1 over the length of the entity."""


def forward(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Aligned entities (R, D), their indices (R,) int64, and their logits (R,) float32."""
    launches, outputs = plan_forward(problem, _scales(problem), architecture(problem.region_RD.device))
    _run(problem, *launches)
    return outputs


def backward(
    problem: Problem, index_R: Tensor, best_R: Tensor, grad_RD: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the regions, the entities and the scale, each where `wanted` (else empty)."""
    R, K, D = problem.sizes
    arch = architecture(problem.region_RD.device)
    scales, grad_RD = _scales(problem), grad_RD.contiguous()
    own_R = (grad_RD.float() * problem.entity_KD[index_R]).sum(1)
    mean, total_SR, mean_SR = plan_mean(problem, scales, best_R, own_R, grad_RD, arch)
    _run(problem, mean)
    total_R = total_SR.sum(0)
    lse_R, mean_R = best_R + total_R.log(), own_R + mean_SR.sum(0) / total_R

    pulled_RD = best_R.new_empty((R, D) if wanted[0] or wanted[2] else 0)
    pulled_KD, gathered_KD = (best_R.new_zeros((K, D) if wanted[1] else 0) for _ in range(2))
    for first, count in _chunks(problem, arch):
        pull, work_RC = plan_pull(problem, scales, lse_R, mean_R, grad_RD, first, count, arch)
        _run(problem, pull)
        if len(pulled_RD):
            _run(problem, plan_region(problem, work_RC, pulled_RD, first, arch))
        if wanted[1]:
            outputs = pulled_KD, gathered_KD
            _run(problem, plan_entity(problem, scales, work_RC, index_R, grad_RD, outputs, first, arch))

    unit_RD = problem.region_RD * inverse_lengths(problem.region_RD)[:, None]
    grad_scale = (unit_RD * pulled_RD).sum() if wanted[2] else best_R.new_empty(0)
    grad_region_RD = across(pulled_RD * scales.row_R[:, None], unit_RD) if wanted[0] else best_R.new_empty(0)
    if wanted[1]:
        gathered_KD += across(pulled_KD, problem.entity_KD * scales.column_K[:, None])
    return grad_region_RD.to(problem.region_RD.dtype), gathered_KD.to(problem.entity_KD.dtype), grad_scale


def _scales(problem: Problem) -> Scales:
    return Scales(inverse_lengths(problem.region_RD) * problem.scale, inverse_lengths(problem.entity_KD))


def _chunks(problem: Problem, arch: int) -> Iterator[tuple[int, int]]:
    """First entity and count of each part of them whose gradients of logits exist at a time."""
    R, K, _ = problem.sizes
    columns = _tiles(PULL, problem, arch).columns
    count = max(1, WORK_ELEMENTS // max(1, R * columns)) * columns
    for first in range(0, K, count):
        yield first, min(count, K - first)


def _run(problem: Problem, *launches: Launch) -> None:
    if problem.sizes[0]:
        for launch in launches:
            launch.run()


def plan_forward(problem: Problem, scales: Scales, arch: int) -> tuple[list[Launch], tuple[Tensor, Tensor, Tensor]]:
    """The launches of the forward, in their order, and the tensors that they fill."""
    R, K, D = problem.sizes
    tiles = _tiles(SEARCH, problem, arch)
    splits, per_split = _splits(R, K, tiles)
    entity_KD = problem.entity_KD.contiguous()
    key_SR, place_SR = (entity_KD.new_empty((splits, R), dtype=torch.int32) for _ in range(2))
    aligned_RD = entity_KD.new_empty((R, D))
    index_R = entity_KD.new_empty((R,), dtype=torch.int64)
    best_R = entity_KD.new_empty((R,), dtype=torch.float32)
    search = Launch(
        kernel=search_kernel,
        grid=(_ceil(R, tiles.rows), splits),
        arguments={
            **_logit_arguments(problem, scales),
            "key_ptr": key_SR,
            "index_ptr": place_SR,
            "per_split": per_split,
        },
        constants=_constants(tiles),
        warps=tiles.warps,
        stages=tiles.stages,
    )
    take = Launch(
        kernel=take_kernel,
        grid=(_ceil(R, TAKE_ROWS), _ceil(D, TAKE_ELEMENTS)),
        arguments={
            "key_ptr": key_SR,
            "index_ptr": place_SR,
            "entity_ptr": entity_KD,
            "aligned_ptr": aligned_RD,
            "chosen_ptr": index_R,
            "best_ptr": best_R,
            "R": R,
            "D": D,
            "splits": splits,
        },
        constants={"ROWS": TAKE_ROWS, "BLOCK_D": TAKE_ELEMENTS},
        warps=4,
        stages=1,
        products=False,
    )
    return [search, take], (aligned_RD, index_R, best_R)


def plan_mean(
    problem: Problem, scales: Scales, best_R: Tensor, own_R: Tensor, grad_RD: Tensor, arch: int
) -> tuple[Launch, Tensor, Tensor]:
    """The launch that finds the parts (splits, R) of the softmax's total and of the mean pull, and these."""
    R, K, _ = problem.sizes
    tiles = _tiles(PULL, problem, arch)
    splits, per_split = _splits(R, K, tiles)
    total_SR, mean_SR = (best_R.new_empty((splits, R)) for _ in range(2))
    launch = Launch(
        kernel=mean_kernel,
        grid=(_ceil(R, tiles.rows), splits),
        arguments={
            **_logit_arguments(problem, scales),
            "grad_ptr": grad_RD,
            "best_ptr": best_R,
            "own_ptr": own_R,
            "total_ptr": total_SR,
            "mean_ptr": mean_SR,
            "per_split": per_split,
        },
        constants=_constants(tiles),
        warps=tiles.warps,
        stages=tiles.stages,
    )
    return launch, total_SR, mean_SR


def plan_pull(
    problem: Problem, scales: Scales, lse_R: Tensor, mean_R: Tensor, grad_RD: Tensor, first: int, count: int, arch: int
) -> tuple[Launch, Tensor]:
    """The launch that finds the gradient (R, count) of the products with the entities from `first`, and this."""
    R, *_ = problem.sizes
    tiles = _tiles(PULL, problem, arch)
    work_RC = lse_R.new_empty((R, count))
    launch = Launch(
        kernel=pull_kernel,
        grid=(_ceil(R, tiles.rows), _ceil(count, tiles.columns)),
        arguments={
            **_logit_arguments(problem, scales),
            "grad_ptr": grad_RD,
            "lse_ptr": lse_R,
            "mean_ptr": mean_R,
            "work_ptr": work_RC,
            "first": first,
            "count": count,
        },
        constants=_constants(tiles),
        warps=tiles.warps,
        stages=tiles.stages,
    )
    return launch, work_RC


def plan_region(problem: Problem, work_RC: Tensor, pulled_RD: Tensor, first: int, arch: int) -> Launch:
    """The launch that writes to `pulled_RD` what the entities from `first` pull; from the second part on it adds."""
    R, _, D = problem.sizes
    tiles = _tiles(PRODUCT, problem, arch)
    return Launch(
        kernel=region_kernel,
        grid=(_ceil(R, tiles.rows), _ceil(D, tiles.depth)),
        arguments={
            "work_ptr": work_RC,
            "entity_ptr": problem.entity_KD.contiguous(),
            "out_ptr": pulled_RD,
            "R": R,
            "D": D,
            "first": first,
            "count": work_RC.shape[1],
        },
        constants={"ADD": first > 0, "ROWS": tiles.rows, "STEP": tiles.columns, "BLOCK_D": tiles.depth},
        warps=tiles.warps,
        stages=tiles.stages,
    )


def plan_entity(
    problem: Problem,
    scales: Scales,
    work_RC: Tensor,
    index_R: Tensor,
    grad_RD: Tensor,
    outputs: tuple[Tensor, Tensor],
    first: int,
    arch: int,
) -> Launch:
    """The launch that fills both (K, D) outputs from `first` on: what cosines pull, and the gathered rows' gradient."""
    R, _, D = problem.sizes
    tiles = _tiles(PRODUCT, problem, arch)
    count = work_RC.shape[1]
    return Launch(
        kernel=entity_kernel,
        grid=(_ceil(count, tiles.rows), _ceil(D, tiles.depth)),
        arguments={
            "work_ptr": work_RC,
            "region_ptr": problem.region_RD.contiguous(),
            "grad_ptr": grad_RD,
            "row_ptr": scales.row_R,
            "index_ptr": index_R,
            "unit_ptr": outputs[0],
            "gathered_ptr": outputs[1],
            "R": R,
            "D": D,
            "first": first,
            "count": count,
        },
        constants={"ROWS": tiles.rows, "STEP": tiles.columns, "BLOCK_D": tiles.depth},
        warps=tiles.warps,
        stages=tiles.stages,
    )


def _logit_arguments(problem: Problem, scales: Scales) -> dict[str, Any]:
    R, K, D = problem.sizes
    return {
        "region_ptr": problem.region_RD.contiguous(),
        "entity_ptr": problem.entity_KD.contiguous(),
        "row_ptr": scales.row_R,
        "column_ptr": scales.column_K,
        "noise_ptr": None if problem.noise_RK is None else problem.noise_RK.contiguous(),
        "seed_ptr": problem.seed,
        "R": R,
        "K": K,
        "D": D,
    }


def _constants(tiles: Tiles) -> dict[str, int]:
    return {"ROWS": tiles.rows, "COLUMNS": tiles.columns, "BLOCK_D": tiles.depth}


def _tiles(table: Mapping[tuple[int, int], Tiles], problem: Problem, arch: int) -> Tiles:
    return table[arch, 8 * problem.region_RD.element_size()]


def _splits(R: int, K: int, tiles: Tiles) -> tuple[int, int]:
    """How many programs share the entities of a region, and how many entities each takes."""
    splits = min(_ceil(PROGRAMS, max(1, _ceil(R, tiles.rows))), MAX_SPLITS, _ceil(K, tiles.columns))
    return splits, _ceil(_ceil(K, tiles.columns), splits) * tiles.columns


def _ceil(count: int, size: int) -> int:
    return -(-count // size)
