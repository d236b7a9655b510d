"""Late interaction on Triton: what is launched for a problem. The kernels are in forward_kernel and backward_kernel.

B videos, V frames, C classes, P prompts of all classes, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..launch import Launch, architecture
from ..segments import TILE_COLUMNS
from .backward_kernel import text_gradient_kernel, video_gradient_kernel
from .forward_kernel import forward_kernel
from .problem import Problem


@dataclass(frozen=True)
class Tiles:
    """One kernel's tile and how it runs."""

    rows: int
    """Frames in a tile."""
    columns: int
    """Prompts in a tile; in the forward at most `TILE_COLUMNS`."""
    depth: int
    """Part of the width D: what one step sums over in the forward, a tile's own width in the backward."""
    warps: int
    stages: int


FORWARD = {
    (80, 16): Tiles(64, TILE_COLUMNS, 32, 8, 3),
    (90, 16): Tiles(64, TILE_COLUMNS, 64, 8, 3),
    (100, 16): Tiles(64, TILE_COLUMNS, 64, 8, 3),
    (80, 32): Tiles(64, TILE_COLUMNS, 32, 8, 1),
    (90, 32): Tiles(64, TILE_COLUMNS, 32, 8, 1),
    (100, 32): Tiles(64, TILE_COLUMNS, 32, 8, 1),
}
"""By architecture and bits of an element. 32 bits are IEEE float32, which no tensor core multiplies."""

BACKWARD = {
    (80, 16): Tiles(64, 32, 64, 4, 2),
    (90, 16): Tiles(64, 64, 64, 4, 2),
    (100, 16): Tiles(64, 64, 64, 4, 2),
    (80, 32): Tiles(64, 32, 64, 8, 1),
    (90, 32): Tiles(64, 32, 64, 8, 1),
    (100, 32): Tiles(64, 32, 64, 8, 1),
}

PROGRAMS = 256
"""Programs that keep a device busy: a gradient of fewer tiles shares out its sums, in at most `MAX_SPLITS` parts."""

MAX_SPLITS = 16


def forward(problem: Problem, save: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (B, C) and, where `save` asks for them, best prompts (C, V, B) and best frames (P, B) as int16."""
    launch, outputs = plan_forward(problem, save, architecture(problem.video_BVD.device))
    if problem.video_BVD.shape[0]:
        launch.run()
    return outputs


def backward(
    problem: Problem, grad_BC: Tensor, prompt_CVB: Tensor, frame_PB: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor]:
    """Gradients of `video_BVD` and `text_PD`, each where `wanted` (else empty), from the saved indices."""
    gradients = []
    for side, want, of_video in zip((problem.video_BVD, problem.text_PD), wanted, (True, False), strict=True):
        if not want:
            gradients.append(side.new_empty(0))
        elif not grad_BC.numel():
            gradients.append(torch.zeros_like(side))
        else:
            launch, parts = plan_gradient(problem, of_video, grad_BC, prompt_CVB, frame_PB, architecture(side.device))
            launch.run()
            gradients.append((parts[0] if len(parts) == 1 else parts.sum(0)).to(side.dtype))
    return gradients[0], gradients[1]


def plan_forward(problem: Problem, save: Sequence[bool], arch: int) -> tuple[Launch, tuple[Tensor, Tensor, Tensor]]:
    """The forward launch and the tensors that it fills."""
    B, V, C, P, D = problem.sizes
    video_BVD = problem.video_BVD.contiguous()
    tiles = FORWARD[arch, 8 * video_BVD.element_size()]
    scores_BC = video_BVD.new_empty((B, C), dtype=torch.float32)
    prompt_CVB = video_BVD.new_empty((C, V, B) if save[0] else 0, dtype=torch.int16)
    frame_PB = video_BVD.new_empty((P, B) if save[1] else 0, dtype=torch.int16)
    frames, slot = min(_power_of_two(V), tiles.rows), min(problem.slot, tiles.columns)
    videos, classes = tiles.rows // frames, tiles.columns // slot
    launch = Launch(
        kernel=forward_kernel,
        grid=(_ceil(B, videos) * _ceil(C, classes),),
        arguments={
            "video_ptr": video_BVD,
            "text_ptr": problem.text_PD.contiguous(),
            "offsets_ptr": problem.offsets,
            "order_ptr": problem.order,
            **_mask_arguments(problem.mask_BV),
            "scores_ptr": scores_BC,
            "prompt_ptr": prompt_CVB,
            "frame_ptr": frame_PB,
            "B": B,
            "C": C,
            "V": V,
            "D": D,
            "weight_v": problem.weights[0],
            "weight_t": problem.weights[1],
        },
        constants={
            "USE_V": problem.weights[0] != 0,
            "USE_T": problem.weights[1] != 0,
            "SAVE_V": save[0],
            "SAVE_T": save[1],
            "MEAN": problem.mean,
            "VIDEOS": videos,
            "FRAMES": frames,
            "CLASSES": classes,
            "SLOT": slot,
            "BLOCK_D": tiles.depth,
            "WIDE": frames < V,
        },
        warps=tiles.warps,
        stages=tiles.stages,
    )
    return launch, (scores_BC, prompt_CVB, frame_PB)


def plan_gradient(
    problem: Problem, of_video: bool, grad_BC: Tensor, prompt_CVB: Tensor, frame_PB: Tensor, arch: int
) -> tuple[Launch, Tensor]:
    """The launch for the gradient of the video, or of the text, and what it fills: parts that add up to the gradient.

    The parts are float32, shaped as the gradient is with the number of parts in front.
    """
    B, V, _, P, D = problem.sizes
    tiles = BACKWARD[arch, 8 * problem.video_BVD.element_size()]
    if of_video:
        side, across, along, step = problem.video_BVD, _ceil(V * B, tiles.rows), P, tiles.columns
    else:
        side, across, along, step = problem.text_PD, _ceil(P, tiles.columns), V * B, tiles.rows
    across_D = _ceil(D, tiles.depth)
    splits = min(_ceil(PROGRAMS, across * across_D), MAX_SPLITS, _ceil(along, step))
    parts = side.new_empty((splits, *side.shape), dtype=torch.float32)
    mask = _mask_arguments(problem.mask_BV)
    index_dtype = torch.int32 if side.dtype == torch.float32 else torch.int16  # see _mask_arguments
    sources = (
        {"text_ptr": problem.text_PD.contiguous(), "counts_ptr": mask["counts_ptr"]}
        if of_video
        else {"video_ptr": problem.video_BVD.contiguous(), **mask}
    )
    launch = Launch(
        kernel=video_gradient_kernel if of_video else text_gradient_kernel,
        grid=(across, across_D, splits),
        arguments={
            "grad_ptr": grad_BC.T.contiguous(),
            **sources,
            "offsets_ptr": problem.offsets,
            "owners_ptr": problem.owners,
            "prompt_ptr": prompt_CVB.to(index_dtype),
            "frame_ptr": frame_PB.to(index_dtype),
            "out_ptr": parts,
            "B": B,
            "V": V,
            "P": P,
            "D": D,
            "per_split": _ceil(_ceil(along, step), splits) * step,
            "weight_v": problem.weights[0],
            "weight_t": problem.weights[1],
        },
        constants={
            "USE_V": problem.weights[0] != 0,
            "USE_T": problem.weights[1] != 0,
            "MEAN": problem.mean,
            "ROWS": tiles.rows,
            "COLUMNS": tiles.columns,
            "BLOCK_D": tiles.depth,
        },
        warps=tiles.warps,
        stages=tiles.stages,
    )
    return launch, parts


def _mask_arguments(mask_BV: Tensor | None) -> dict[str, Any]:
    if mask_BV is None:
        return {"mask_ptr": None, "counts_ptr": None}
    # int32 and not bytes: Triton multiplies float32 in tf32 on sm_100 where anything narrower reaches a product.
    return {"mask_ptr": mask_BV.to(torch.int32), "counts_ptr": mask_BV.sum(1, dtype=torch.int32)}


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
