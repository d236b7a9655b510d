"""Mixup and CutMix: two videos of a batch become one, and the loss asks for both in their shares.

Shapes: B videos, V views, T frames, C channels, H and W pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .config import DataConfig
from .methods import IGNORED


class Mixed(NamedTuple):
    """A batch after mixing."""

    clips_BVTCHW: Tensor
    partner_labels_B: Tensor
    """int64: the label of the other video; `IGNORED` where the sample does not count."""
    share: float
    """Of a video itself, in [0, 1]; the other has the rest."""


def mix(clips_BVTCHW: Tensor, labels_B: Tensor, config: DataConfig, *, seed: int) -> Mixed | None:
    """Mix each video that counts with another that counts; one draw for the whole batch, as ViFi-CLIP does.

    Mixup adds the pixels of both in their shares (Zhang et al., "mixup"); CutMix puts one rectangle of the other in all
    frames (Yun et al., "CutMix"), whose share is that of its area. Where both are asked for, each comes half the time.

    Args:
        clips_BVTCHW: pixels, which stay as they are.
        labels_B: (B,) int64, `IGNORED` where the sample does not count.
        config: `mixup` and `cutmix`, the parameters of their Beta distributions.
        seed: of the draw.

    Returns:
        None where neither is asked for or there are not two videos to mix.
    """
    rows = (labels_B != IGNORED).nonzero().flatten().tolist()
    if not (config.mixup or config.cutmix) or len(rows) < 2:
        return None
    generator = torch.Generator().manual_seed(seed)
    cut = config.cutmix > 0 and (not config.mixup or bool(torch.rand((), generator=generator) < 0.5))
    share = _beta(config.cutmix if cut else config.mixup, generator)
    order = [rows[place] for place in torch.randperm(len(rows), generator=generator).tolist()]
    partner_B = torch.arange(len(labels_B))
    partner_B[order] = torch.tensor([*order[1:], order[0]])  # one ring through all: nobody meets himself
    partner_B = partner_B.to(clips_BVTCHW.device)
    others = clips_BVTCHW[partner_B]
    if not cut:
        return Mixed(torch.lerp(others, clips_BVTCHW, share), labels_B[partner_B], share)
    height, width = clips_BVTCHW.shape[-2:]
    top, bottom, left, right = _rectangle(height, width, 1 - share, generator)
    clips = clips_BVTCHW.clone()
    clips[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return Mixed(clips, labels_B[partner_B], 1 - (bottom - top) * (right - left) / (height * width))


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw of Beta(alpha, alpha), by two of Gamma(alpha)."""
    one, other = (torch._standard_gamma(torch.tensor(alpha, dtype=torch.float64), generator=generator) for _ in "ab")
    return float(one / (one + other)) if one + other > 0 else 0.5


def _rectangle(height: int, width: int, area: float, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a rectangle with that share of the area, around any pixel, cut at the border."""
    high, wide = round(height * math.sqrt(area)), round(width * math.sqrt(area))
    middle = [int(torch.randint(size, (), generator=generator)) for size in (height, width)]
    top, left = middle[0] - high // 2, middle[1] - wide // 2
    return max(top, 0), min(top + high, height), max(left, 0), min(left + wide, width)
