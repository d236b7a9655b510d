"""The launches of late interaction that stand for all: every branch of its kernels, for every dtype."""

from collections.abc import Iterator

import torch

from ..launch import Launch
from ..segments import Segments
from .problem import Problem
from .triton import plan_forward, plan_gradient

DTYPES = (torch.bfloat16, torch.float16, torch.float32)

SHAPES = {
    "8 frames, 36 prompts": (64, 8, [36] * 400, False),
    "12 frames, 4 prompts, masked": (64, 12, [4] * 400, True),
    "192 frames, 300 prompts, masked": (4, 192, [300] * 4, True),
}
"""Videos, frames, prompts of each class, masked: several steps over a class, one step, and more frames than a tile."""

D = 512


def launches(arch: int) -> Iterator[tuple[str, torch.dtype, Launch]]:
    """Name, dtype and launch, planned for `arch` with tensors that take no memory."""
    for dtype in DTYPES:
        for name, (B, V, lengths, masked) in SHAPES.items():
            problem = _problem(B, V, lengths, masked, dtype)
            learning, (scores_BC, prompt_CVB, frame_PB) = plan_forward(problem, (True, True), arch)
            yield f"forward, {name}", dtype, learning
        scoring, _ = plan_forward(problem, (False, False), arch)
        yield f"scores alone, {name}", dtype, scoring
        for side, of_video in (("video", True), ("text", False)):
            gradient, _ = plan_gradient(problem, of_video, scores_BC, prompt_CVB, frame_PB, arch)
            yield f"{side} gradient, masked", dtype, gradient


def _problem(B: int, V: int, lengths: list[int], masked: bool, dtype: torch.dtype) -> Problem:
    segments = Segments.from_lengths(lengths, "meta")
    return Problem(
        video_BVD=torch.empty(B, V, D, dtype=dtype, device="meta"),
        text_PD=torch.empty(segments.total, D, dtype=dtype, device="meta"),
        mask_BV=torch.empty(B, V, dtype=torch.bool, device="meta") if masked else None,
        offsets=segments.offsets,
        owners=segments.owners,
        order=segments.order,
        slot=segments.slot,
        weights=(0.5, 0.5),
        mean=True,
    )
