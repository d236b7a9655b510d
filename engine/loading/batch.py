"""What a loader yields. B videos, V views (clips x crops), T frames, C channels (of clips) or classes, H, W pixels."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's share of a step."""

    clips_BVTCHW: torch.Tensor
    """float32, normalised."""
    labels_B: torch.Tensor
    """int64, the place of the sample's first known label in `ClipLoader.classes`; -1 where it has none."""
    action_ids_B: torch.Tensor
    """int64, -1 where the sample has none."""
    keys: list[str]
    captions: list[str]
    valid_B: torch.Tensor
    """bool; False where the pixels are a neighbour's (the sample did not decode) or the slot pads the tail."""
    targets_BC: torch.Tensor | None = None
    """float32, 1 for every label of the sample; None unless `multi_label`."""
    texts: list[list[str]] | None = None
    """Descriptions of each sample's action, drawn from the bank; None without one."""
