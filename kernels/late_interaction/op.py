"""The public op: late interaction of frames and prompts, AP-CLIP Eq. 4-6.

B videos, V frames, C classes, P prompts of all classes, D width.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from ..library import Impl, choose
from ..segments import Segments, as_segments
from .reference import late_interaction_reference
from .torch_op import torch_forward

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class LateInteraction(NamedTuple):
    """Scores and the maxima that they were made from."""

    scores_BC: Tensor
    prompt_BVC: Tensor
    """int16, the best prompt of each frame as its index within the class; -1 for a masked frame."""
    frame_BP: Tensor
    """int16, the best frame of each prompt; -1 in a video without a valid frame."""


@overload
def late_interaction(
    video_BVD: Tensor,
    text_PD: Tensor,
    segments: Segments | Sequence[int] | Tensor,
    *,
    video_mask_BV: Tensor | None = None,
    weights: tuple[float, float] = (0.5, 0.5),
    reduce: Literal["mean", "sum"] = "mean",
    return_argmax: Literal[False] = False,
    impl: Impl = "auto",
) -> Tensor: ...


@overload
def late_interaction(
    video_BVD: Tensor,
    text_PD: Tensor,
    segments: Segments | Sequence[int] | Tensor,
    *,
    video_mask_BV: Tensor | None = None,
    weights: tuple[float, float] = (0.5, 0.5),
    reduce: Literal["mean", "sum"] = "mean",
    return_argmax: Literal[True],
    impl: Impl = "auto",
) -> LateInteraction: ...


def late_interaction(
    video_BVD: Tensor,
    text_PD: Tensor,
    segments: Segments | Sequence[int] | Tensor,
    *,
    video_mask_BV: Tensor | None = None,
    weights: tuple[float, float] = (0.5, 0.5),
    reduce: Literal["mean", "sum"] = "mean",
    return_argmax: bool = False,
    impl: Impl = "auto",
) -> Tensor | LateInteraction:
    """Score videos against classes by the best prompt of each frame and the best frame of each prompt.

    scores[b, c] = weights[0] * mean_i max_j s[i, j] + weights[1] * mean_j max_i s[i, j], where s[i, j] is the dot
    product of frame i of video b and prompt j of class c. Embeddings are taken as they come:
    for cosines, normalise them.

    Args:
        video_BVD: (B, V, D) frame embeddings, fp16, bf16, fp32 or fp64, any strides; V up to 32768.
        text_PD: (P, D) prompt embeddings of all classes, one class after the other, in the dtype of `video_BVD`.
        segments: `Segments` that cut the rows of `text_PD` into C classes of up to 32768; or C + 1 offsets, which are
            checked, and read back from their device, at each call.
        video_mask_BV: (B, V) bool, True for a valid frame. Others are absent: they win no maximum and count in no mean.
        weights: of the direction video to text (the best prompt of each frame) and of text to video. A direction of
            weight 0 is not computed: (1, 0) or (0, 1) with `reduce="sum"` is ColBERT's MaxSim.
        reduce: "mean" or "sum" over the frames and over the prompts of the class.
        return_argmax: return `LateInteraction`: also which prompt and which frame was best, in both directions
            whatever the weights. Ties go to the lowest index.
        impl: "auto" takes Triton on CUDA and the blocked path on the CPU.

    Returns:
        (B, C) scores, fp32 (fp64 for fp64). A video without a valid frame scores 0 and has no gradient. A NaN reaches
        exactly the scores that depend on it.

    Raises:
        ValueError: shapes, dtypes or devices disagree or are not supported, an option is unknown, a class is empty.
        RuntimeError: the gradient is differentiated again (except with `impl="reference"`).
    Source:
        AP-CLIP, Eq. 4-6. Differs from it by: ragged classes, masks, weights, sums.
    """
    path = choose(impl, video_BVD)
    _check_tensors(video_BVD, text_PD, video_mask_BV)
    segments = as_segments(segments, text_PD)
    if segments.longest > 2**15:
        raise ValueError(f"a class may have up to 32768 prompts (int16 indices), got {segments.longest}")
    if len(weights) != 2 or not all(abs(weight) < math.inf for weight in weights):
        raise ValueError(f"weights must be two finite numbers (video to text, text to video), got {weights}")
    if reduce not in ("mean", "sum"):
        raise ValueError(f"reduce must be 'mean' or 'sum', got {reduce!r}")
    weights = (float(weights[0]), float(weights[1]))

    if path == "reference":
        scores_BC, prompt_BVC, frame_BP = late_interaction_reference(
            video_BVD, text_PD, segments, video_mask_BV, weights, reduce == "mean"
        )
    else:
        learns = torch.is_grad_enabled() and (video_BVD.requires_grad or text_PD.requires_grad)
        save = [return_argmax or (learns and weight != 0) for weight in weights]
        outputs: tuple[Tensor, Tensor, Tensor] = torch_forward(
            video_BVD, text_PD, video_mask_BV, segments.offsets, segments.owners, segments.order, segments.slot,
            weights, reduce == "mean", save, path,
        )  # fmt: skip
        scores_BC, prompt_CVB, frame_PB = outputs
        if not return_argmax:
            return scores_BC
        prompt_BVC, frame_BP = prompt_CVB.permute(2, 1, 0), frame_PB.T
    return LateInteraction(scores_BC, prompt_BVC, frame_BP) if return_argmax else scores_BC


def _check_tensors(video_BVD: Tensor, text_PD: Tensor, mask_BV: Tensor | None) -> None:
    if video_BVD.dim() != 3 or 0 in video_BVD.shape[1:]:
        raise ValueError(f"video_BVD must have shape (B, V, D) with V, D >= 1, got {tuple(video_BVD.shape)}")
    if video_BVD.shape[1] > 2**15:
        raise ValueError(f"a video may have up to 32768 frames (int16 indices), got {video_BVD.shape[1]}")
    if text_PD.dim() != 2 or text_PD.shape[1] != video_BVD.shape[2]:
        want = f"(P, {video_BVD.shape[2]}), the D of video_BVD"
        raise ValueError(f"text_PD must have shape {want}, got {tuple(text_PD.shape)}")
    if video_BVD.dtype not in DTYPES:
        raise ValueError(f"video_BVD must be float16, bfloat16, float32 or float64, got {video_BVD.dtype}")
    if text_PD.dtype != video_BVD.dtype and not torch.is_autocast_enabled(video_BVD.device.type):
        raise ValueError(f"text_PD must be {video_BVD.dtype} (the dtype of video_BVD), got {text_PD.dtype}")
    if text_PD.device != video_BVD.device:
        raise ValueError(f"text_PD must be on {video_BVD.device} (the device of video_BVD), got {text_PD.device}")
    if mask_BV is None:
        return
    if mask_BV.dtype != torch.bool or mask_BV.shape != video_BVD.shape[:2]:
        want = f"bool {tuple(video_BVD.shape[:2])} (the B, V of video_BVD)"
        raise ValueError(f"video_mask_BV must be {want}, got {mask_BV.dtype} {tuple(mask_BV.shape)}")
    if mask_BV.device != video_BVD.device:
        raise ValueError(f"video_mask_BV must be on {video_BVD.device} (the device of video_BVD), got {mask_BV.device}")
