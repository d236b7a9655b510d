"""Late interaction in plain PyTorch, in the dtype of its inputs: the oracle of the other implementations.

B videos, V frames, C classes, P prompts of all classes, L prompts of the longest class, D width.
"""

import torch
from torch import Tensor

from ..segments import Segments


def late_interaction_reference(
    video_BVD: Tensor,
    text_PD: Tensor,
    segments: Segments,
    video_mask_BV: Tensor | None,
    weights: tuple[float, float],
    mean: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (B, C), best prompt of each frame (B, V, C) and best frame of each prompt (B, P); see the op.

    Holds the padded (B, V, C, L) score tensor and differentiates by autograd, twice if need be.
    """
    offsets_C, length_C = segments.offsets[:-1], segments.offsets.diff()
    present_CL = torch.arange(segments.longest, device=text_PD.device) < length_C[:, None]
    # Rows past the end of a class belong to others: they are cleared, so that a NaN of theirs stays with them.
    row_CL = (offsets_C[:, None] + torch.arange(segments.longest, device=text_PD.device)).clamp(max=len(text_PD) - 1)
    text_CLD = text_PD[row_CL].masked_fill(~present_CL[:, :, None], 0)
    if video_mask_BV is None:
        video_mask_BV = video_BVD.new_ones(video_BVD.shape[:2], dtype=torch.bool)
    video_BVD = video_BVD.masked_fill(~video_mask_BV[:, :, None], 0)
    valid_B = video_mask_BV.any(1)

    similarity_BVCL = torch.einsum("bvd,cld->bvcl", video_BVD, text_CLD)
    best_BVC, prompt_BVC = similarity_BVCL.masked_fill(~present_CL, -torch.inf).max(3)
    best_BCL, frame_BCL = similarity_BVCL.masked_fill(~video_mask_BV[:, :, None, None], -torch.inf).max(1)

    wide = torch.float64 if video_BVD.dtype == torch.float64 else torch.float32
    video_to_text_BC = best_BVC.to(wide).masked_fill(~video_mask_BV[:, :, None], 0).sum(1)
    text_to_video_BC = best_BCL.to(wide).masked_fill(~(present_CL & valid_B[:, None, None]), 0).sum(2)
    if mean:
        video_to_text_BC = video_to_text_BC / video_mask_BV.sum(1).clamp(min=1)[:, None]
        text_to_video_BC = text_to_video_BC / length_C
    scores_BC = torch.zeros_like(video_to_text_BC)
    # A direction without weight is left out, not multiplied by 0: that would turn its infinities into NaN.
    for weight, direction_BC in zip(weights, (video_to_text_BC, text_to_video_BC), strict=True):
        if weight != 0:
            scores_BC = scores_BC + weight * direction_BC

    owner_P = segments.owners.long()
    frame_BP = frame_BCL[:, owner_P, torch.arange(len(text_PD), device=text_PD.device) - offsets_C[owner_P]]
    return (
        scores_BC,
        prompt_BVC.masked_fill(~video_mask_BV[:, :, None], -1).to(torch.int16),
        frame_BP.masked_fill(~valid_B[:, None], -1).to(torch.int16),
    )
