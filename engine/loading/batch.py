"""What a loader yields. B videos, V views (clips x crops), T frames, C channels (of clips) or classes, H, W pixels, L
rows of the longest sample.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's share of a step."""

    clips_BVTCHW: torch.Tensor
    """float32, normalised. T is 0 where no video is read (`LoaderConfig(video=False)`)."""
    labels_B: torch.Tensor
    """int64, the place of the sample's first known label in `ClipLoader.classes`; -1 where it has none."""
    action_ids_B: torch.Tensor
    """int64, -1 where the sample has none."""
    keys: list[str]
    captions: list[str]
    valid_B: torch.Tensor
    """bool; False where the pixels and features are a neighbour's (the sample did not decode) or the slot pads the
    tail."""
    targets_BC: torch.Tensor | None = None
    """float32, 1 for every label of the sample; None unless `multi_label`."""
    features: dict[str, torch.Tensor] | None = None
    """By name, in the types in which they are stored, on the CPU: (B, V, T, ...) those of each view's frames, (B, ...)
    whole, or (B, L, ...) padded with zeros; the module `features` has the rules. None unless asked for."""
    feature_masks: dict[str, torch.Tensor] | None = None
    """(B, L) bool of each padded one: False behind a sample's last row."""
    texts: list[list[str]] | None = None
    """Descriptions of each sample's action, drawn from the bank; None without one."""
