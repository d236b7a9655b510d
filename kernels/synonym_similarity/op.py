"""The public ops: similarity of videos and classes of synonyms, and its cross entropy (ACE Eq. 3 and 8).

B videos, C classes, P synonyms of all classes, G groups of negatives, N negatives of all groups, D width.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast, overload

import torch
from torch import Tensor

from ..library import Impl, choose
from ..segments import Segments, as_segments
from .reference import cross_entropy_reference, means_reference, similarity_reference, wide
from .torch_op import torch_cross_entropy, torch_means, torch_similarity

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Reduction = Literal["none", "mean", "sum"]


class SynonymLoss(NamedTuple):
    """The loss with what ranks that hold shards of the classes need to combine theirs."""

    loss: Tensor
    lse_B: Tensor
    """Logarithm of the sum of exponentials of the scores of all classes and of the negative, also where ignored."""


def synonym_similarity(
    video_BD: Tensor,
    text_PD: Tensor,
    segments: Segments | Sequence[int] | Tensor,
    *,
    scale: float | Tensor = 1.0,
    normalize: bool = True,
    impl: Impl = "auto",
) -> Tensor:
    """Score videos against classes, each the mean of its synonyms: scale * the mean of the cosines.

    Args:
        video_BD: (B, D) fp16, bf16, fp32 or fp64, any strides.
        text_PD: (P, D) synonyms of all classes, one class after the other, in the dtype of `video_BD`.
        segments: `Segments` that cut the rows of `text_PD` into C classes; or C + 1 offsets, which are checked, and
            read back from their device, at each call.
        scale: ACE's 1 / tau: a finite number, or a 0-d floating tensor on the device of `video_BD`, with a gradient.
        normalize: make both sides unit rows. The mean of unit rows is not normalised again, so that a class whose
            synonyms disagree scores lower. False takes rows as they come.
        impl: "auto" takes Triton on CUDA and the blocked path on the CPU.

    Returns:
        (B, C) scores, fp32 (fp64 for fp64). A row of length 0 counts as 0 and has no gradient. A NaN reaches exactly
        the scores that depend on it.

    Raises:
        ValueError: shapes, dtypes or devices disagree or are not supported, a class is empty.
        RuntimeError: the gradient is differentiated again (except with `impl="reference"`).
    Source:
        ACE, Eq. 3.
    """
    path = choose(impl, video_BD)
    _check_video(video_BD)
    factor = _scale(scale, video_BD)
    means_CD = _means("text_PD", text_PD, segments, video_BD, normalize, path)
    if path == "reference":
        similarity_BC = similarity_reference(video_BD, means_CD, normalize)
    else:
        similarity_BC, _ = cast(tuple[Tensor, Tensor], torch_similarity(video_BD, means_CD, normalize, path))
    return similarity_BC * factor.to(similarity_BC.dtype)


@overload
def synonym_cross_entropy(
    video_BD: Tensor,
    text_PD: Tensor,
    segments: Segments | Sequence[int] | Tensor,
    target_B: Tensor,
    *,
    scale: float | Tensor,
    negative_PD: Tensor | None = None,
    negative_offsets: Segments | Sequence[int] | Tensor | None = None,
    negative_B: Tensor | None = None,
    normalize: bool = True,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    return_lse: Literal[False] = False,
    impl: Impl = "auto",
) -> Tensor: ...


@overload
def synonym_cross_entropy(
    video_BD: Tensor,
    text_PD: Tensor,
    segments: Segments | Sequence[int] | Tensor,
    target_B: Tensor,
    *,
    scale: float | Tensor,
    negative_PD: Tensor | None = None,
    negative_offsets: Segments | Sequence[int] | Tensor | None = None,
    negative_B: Tensor | None = None,
    normalize: bool = True,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    return_lse: Literal[True],
    impl: Impl = "auto",
) -> SynonymLoss: ...


def synonym_cross_entropy(
    video_BD: Tensor,
    text_PD: Tensor,
    segments: Segments | Sequence[int] | Tensor,
    target_B: Tensor,
    *,
    scale: float | Tensor,
    negative_PD: Tensor | None = None,
    negative_offsets: Segments | Sequence[int] | Tensor | None = None,
    negative_B: Tensor | None = None,
    normalize: bool = True,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    return_lse: bool = False,
    impl: Impl = "auto",
) -> Tensor | SynonymLoss:
    """Cross entropy of the scores of `synonym_similarity`, each video with a negative class of its own beside them.

    loss[b] = log(sum over c of exp(score[b, c]) + exp(score[b, negative])) - score[b, target[b]]

    Args:
        video_BD: (B, D) fp16, bf16, fp32 or fp64, any strides.
        text_PD: (P, D) synonyms of all classes, one class after the other, in the dtype of `video_BD`.
        segments: how `text_PD` is cut into C classes; see `synonym_similarity`.
        target_B: (B,) int64 or int32, the class of each video, or `ignore_index`.
        scale: a finite number, or a 0-d floating tensor on the device of `video_BD`, with a gradient.
        negative_PD: (N, D) synonyms of all negatives, in the dtype of `video_BD`; None for no negatives.
        negative_offsets: how `negative_PD` is cut into G groups, each averaged like a class; None for one row each.
        negative_B: (B,) int64 or int32, the group of each video, -1 for none; None where video b has group b (G = B).
        normalize: make all rows unit rows; see `synonym_similarity`.
        label_smoothing: this part of the target, 0 to 1, is spread evenly over the C classes, not on the negative.
        ignore_index: videos with this target have loss 0 and pull on nothing; what they hold, NaN too, has no effect.
        reduction: "none", "sum", or "mean" over the videos that are not ignored (NaN if all are, as for torch).
        return_lse: return `SynonymLoss`: also the logarithm of the sum of exponentials, with its gradient.
        impl: "auto" takes Triton on CUDA and the blocked path on the CPU.

    Returns:
        The loss, fp32 (fp64 for fp64), 0-d or (B,) for "none"; or `SynonymLoss`.

    Raises:
        ValueError: shapes, dtypes or devices disagree or are not supported, an option is unknown, a class is empty; on
            the CPU also if a target or a group is out of range. Elsewhere such a video has the loss NaN: indices are
            not read back.
        RuntimeError: the gradient is differentiated again (except with `impl="reference"`).
    Source:
        ACE, Eq. 8. Differs from it by: label smoothing, ignored videos, the scores' logarithm for shards of classes.
    """
    path = choose(impl, video_BD)
    _check_video(video_BD)
    target_B = _index("target_B", target_B, video_BD)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be 0 to 1, got {label_smoothing}")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    factor = _scale(scale, video_BD)
    means_CD = _means("text_PD", text_PD, segments, video_BD, normalize, path)
    negatives_GD = None
    if negative_PD is not None:
        negatives_GD = _means("negative_PD", negative_PD, negative_offsets, video_BD, normalize, path)
        if negative_B is not None:
            negative_B = _index("negative_B", negative_B, video_BD)
        elif len(negatives_GD) != len(video_BD):
            want = f"{len(video_BD)} groups, one for each video, since negative_B is None"
            raise ValueError(f"negative_PD must have {want}, got {len(negatives_GD)}")
    elif negative_offsets is not None or negative_B is not None:
        raise ValueError("negative_PD must be given with negative_offsets and negative_B, got None")

    arguments = (
        video_BD, means_CD, factor, target_B, negatives_GD, negative_B, float(label_smoothing), ignore_index, normalize,
    )  # fmt: skip
    if path == "reference":
        loss_B, lse_B = cross_entropy_reference(*arguments)
    else:
        loss_B, lse_B, *_ = cast(tuple[Tensor, ...], torch_cross_entropy(*arguments, path))
    loss = loss_B
    if reduction != "none":
        loss = loss_B.sum()
    if reduction == "mean":
        loss = loss / (target_B != ignore_index).sum()
    return SynonymLoss(loss, lse_B) if return_lse else loss


def _means(
    name: str,
    text_PD: Tensor,
    segments: Segments | Sequence[int] | Tensor | None,
    video_BD: Tensor,
    normalize: bool,
    path: str,
) -> Tensor:
    """(C, D) means of segments of checked text; of single rows where there are no segments."""
    D = video_BD.shape[1]
    if text_PD.dim() != 2 or text_PD.shape[1] != D or text_PD.shape[0] == 0:
        raise ValueError(f"{name} must have shape (rows, {D}), the D of video_BD, got {tuple(text_PD.shape)}")
    if text_PD.dtype not in DTYPES:
        raise ValueError(f"{name} must be float16, bfloat16, float32 or float64, got {text_PD.dtype}")
    if text_PD.dtype != video_BD.dtype and not _autocast(text_PD, video_BD):
        raise ValueError(f"{name} must be {video_BD.dtype} (the dtype of video_BD), got {text_PD.dtype}")
    if text_PD.device != video_BD.device:
        raise ValueError(f"{name} must be on {video_BD.device} (the device of video_BD), got {text_PD.device}")
    if segments is None:
        offsets = torch.arange(len(text_PD) + 1, device=text_PD.device)
        owners = offsets[:-1].int()
    else:
        segments = as_segments(segments, text_PD, name)
        offsets, owners = segments.offsets, segments.owners
    if path == "reference":
        return means_reference(text_PD, offsets, owners, normalize)
    means_CD, _ = cast(tuple[Tensor, Tensor], torch_means(text_PD, offsets, owners, normalize, path))
    return means_CD


def _autocast(text_PD: Tensor, video_BD: Tensor) -> bool:
    """Whether autocast gives both the same dtype."""
    castable = torch.float64 not in (text_PD.dtype, video_BD.dtype)
    return castable and torch.is_autocast_enabled(video_BD.device.type)


def _scale(scale: float | Tensor, video_BD: Tensor) -> Tensor:
    """A 0-d tensor on the device of the videos, made without waiting for it."""
    if isinstance(scale, Tensor):
        if scale.dim() != 0 or not scale.is_floating_point():
            raise ValueError(f"scale must be a number or a 0-d floating tensor, got {scale.dtype} {tuple(scale.shape)}")
        if scale.device != video_BD.device:
            raise ValueError(f"scale must be on {video_BD.device} (the device of video_BD), got {scale.device}")
        return scale
    if isinstance(scale, bool) or not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, got {scale!r}")
    return torch.full((), scale, dtype=wide(video_BD.dtype), device=video_BD.device)


def _check_video(video_BD: Tensor) -> None:
    if video_BD.dim() != 2 or video_BD.shape[1] == 0:
        raise ValueError(f"video_BD must have shape (B, D) with D >= 1, got {tuple(video_BD.shape)}")
    if video_BD.dtype not in DTYPES:
        raise ValueError(f"video_BD must be float16, bfloat16, float32 or float64, got {video_BD.dtype}")


def _index(name: str, index_B: Tensor, video_BD: Tensor) -> Tensor:
    if index_B.dtype not in (torch.int64, torch.int32) or index_B.shape != video_BD.shape[:1]:
        want = f"int64 or int32 ({len(video_BD)},) (the B of video_BD)"
        raise ValueError(f"{name} must be {want}, got {index_B.dtype} {tuple(index_B.shape)}")
    if index_B.device != video_BD.device:
        raise ValueError(f"{name} must be on {video_BD.device} (the device of video_BD), got {index_B.device}")
    return index_B.long()
