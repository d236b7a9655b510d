"""The launches of synonym classes that stand for all: every branch of their kernels, for every dtype."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..launch import Launch
from .loss_plan import Pulls, plan_cross_entropy, plan_group_sums, plan_pull, plan_video_gradient
from .means_plan import plan_lengths, plan_means, plan_spread
from .problem import Problem, Upstream
from .product_plan import plan_gradient, plan_scores

DTYPES = (torch.bfloat16, torch.float16, torch.float32)

B, C, M, D = 256, 400, 9, 512


def launches(arch: int) -> Iterator[tuple[str, torch.dtype, Launch]]:
    """Name, dtype and launch, planned for `arch` with tensors that take no memory."""
    for dtype in DTYPES:
        yield from _text_launches(dtype, D, "")
        yield from _text_launches(dtype, D - 1, ", width 511")  # one element at a time
        yield from _loss_launches(dtype, arch, own=False)
        yield from _loss_launches(dtype, arch, own=True)
        yield from _product_launches(dtype, arch)


def _text_launches(dtype: torch.dtype, width: int, what: str) -> Iterator[tuple[str, torch.dtype, Launch]]:
    text_PD, offsets = _empty(C * M, width, dtype=dtype), _empty(C + 1, dtype=torch.int64)
    owners = _empty(C * M, dtype=torch.int32)
    for normalize, kind in ((True, ""), (False, " as they come")):
        launch, means_CD, inverse_P = plan_means(text_PD, offsets, normalize)
        yield f"means{kind}{what}", dtype, launch
        launch, _ = plan_spread(means_CD, text_PD, offsets, owners, inverse_P, normalize)
        yield f"gradient of means{kind}{what}", dtype, launch
    yield f"lengths{what}", dtype, plan_lengths(text_PD)[0]


def _product_launches(dtype: torch.dtype, arch: int) -> Iterator[tuple[str, torch.dtype, Launch]]:
    video_BD, means_CD, inverse_B = _empty(B, D, dtype=dtype), _empty(C, D), _empty(B)
    launch, grad_BC = plan_scores(video_BD, means_CD, inverse_B, arch)
    yield "similarity", dtype, launch
    launch, parts = plan_gradient(grad_BC, means_CD, None, dtype, arch)
    yield "pull of the classes", dtype, launch
    yield "pull of the videos", dtype, plan_gradient(grad_BC.T, video_BD, inverse_B, dtype, arch)[0]
    launch, _ = plan_video_gradient(video_BD, parts[0], inverse_B, inverse_B, None, True)
    yield "gradient of videos", dtype, launch


def _loss_launches(dtype: torch.dtype, arch: int, *, own: bool) -> Iterator[tuple[str, torch.dtype, Launch]]:
    """`own`: each video has a negative of its own; else none has."""
    problem = Problem(
        video_BD=_empty(B, D, dtype=dtype),
        means_CD=_empty(C, D),
        scale=_empty(),
        target_B=_empty(B, dtype=torch.int64),
        negatives_GD=_empty(B, D) if own else None,
        negative_B=_empty(B, dtype=torch.int64) if own else None,
        label_smoothing=0.1,
        ignore_index=-100,
        normalize=True,
    )
    what = ", negatives" if own else ""
    (statistics, combine), (loss_B, lse_B), kept = plan_cross_entropy(problem, _empty(B), arch)
    if not own:
        yield "loss, statistics", dtype, statistics
    yield f"loss, the parts together{what}", dtype, combine
    pulls = Pulls.empty(problem, B, arch)
    yield f"pull{what}", dtype, plan_pull(problem, kept, Upstream(loss_B, lse_B), pulls, slice(0, B), arch)
    if problem.negatives_GD is not None and pulls.own_pull_B is not None:
        theirs = problem.negatives_GD, problem.negative_B, pulls.own_pull_B
        launch, _ = plan_video_gradient(problem.video_BD, _empty(B, D), pulls.factor_B, kept.inverse_B, theirs, True)
        yield f"gradient of videos{what}", dtype, launch
        yield "gradient of negatives", dtype, plan_group_sums(problem, pulls)[0]


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
