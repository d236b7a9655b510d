"""The launches of entity alignment that stand for all: every branch of its kernels, for every dtype."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..launch import Launch
from .problem import Problem
from .triton import Scales, plan_entity, plan_forward, plan_mean, plan_pull, plan_region

DTYPES = (torch.bfloat16, torch.float16, torch.float32)

R, K = 1024, 10_000


def launches(arch: int) -> Iterator[tuple[str, torch.dtype, Launch]]:
    """Name, dtype and launch, planned for `arch` with tensors that take no memory."""
    for dtype in DTYPES:
        problem = _problem(dtype, 512, seeded=True)
        (search, take), _ = plan_forward(problem, SCALES, arch)
        yield "search, seed", dtype, search
        yield "take", dtype, take
        yield "search, noise", dtype, plan_forward(_problem(dtype, 512, noisy=True), SCALES, arch)[0][0]
        yield "search, width 509", dtype, plan_forward(_problem(dtype, 509), SCALES, arch)[0][0]
        for name, case in (("seed", problem), ("width 509, noise", _problem(dtype, 509, noisy=True))):
            D = case.region_RD.shape[1]
            grad_RD, row_R = _empty(R, D, dtype=dtype), SCALES.row_R
            yield f"mean, {name}", dtype, plan_mean(case, SCALES, row_R, row_R, grad_RD, arch)[0]
            pull, work_RC = plan_pull(case, SCALES, row_R, row_R, grad_RD, 4096, 4096, arch)
            yield f"pull, {name}", dtype, pull
            yield f"region gradient, {name}", dtype, plan_region(case, work_RC, _empty(R, D), 4096, arch)
            entity = plan_entity(
                case, SCALES, work_RC, _empty(R, dtype=torch.int64), grad_RD, (_empty(K, D), _empty(K, D)), 0, arch
            )
            yield f"entity gradient, {name}", dtype, entity


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


SCALES = Scales(_empty(R), _empty(K))


def _problem(dtype: torch.dtype, D: int, *, noisy: bool = False, seeded: bool = False) -> Problem:
    return Problem(
        region_RD=_empty(R, D, dtype=dtype),
        entity_KD=_empty(K, D, dtype=dtype),
        scale=_empty(),
        noise_RK=_empty(R, K) if noisy else None,
        seed=_empty(dtype=torch.int64) if seeded else None,
    )
