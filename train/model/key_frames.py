"""How much each frame of a video says about a class (Storyboard, Eq. 8 and 10).

Shapes: B videos, L frames, C classes, W words, N steps of a class, D width.
"""

from typing import Literal

import torch
from torch import Tensor

from .text import unit

Denominator = Literal["exponentials", "printed"]
Words = Literal["mean", "sum"]


def coarse_weights(
    words_CWD: Tensor,
    counts_CW: Tensor,
    frames_BLD: Tensor,
    *,
    tau: float,
    denominator: Denominator = "exponentials",
    words: Words = "mean",
) -> Tensor:
    """Every word of a class weighs the frames by their likeness to it; the class takes the mean over its words.

    Args:
        words_CWD: embeddings of any length.
        counts_CW: bool, which of them are words.
        frames_BLD: of length 1.
        tau: temperature of the softmax over frames.
        denominator: "printed" divides by the sum of cosines over tau, without exponentials, as Eq. 8 is printed.
        words: "sum" adds the weights of the words, as Eq. 8 is printed.

    Returns:
        (B, C, L) weights; those of a video and a class sum to 1 with both defaults.
    """
    logits_BCWL = torch.einsum("cwd,bld->bcwl", unit(words_CWD), frames_BLD) / tau
    if denominator == "printed":
        weights_BCWL = logits_BCWL.exp() / logits_BCWL.sum(-1, keepdim=True)
    else:
        weights_BCWL = logits_BCWL.softmax(-1)
    sums_BCL = torch.einsum("bcwl,cw->bcl", weights_BCWL, counts_CW.to(weights_BCWL.dtype))
    return sums_BCL if words == "sum" else sums_BCL / counts_CW.sum(1).clamp(min=1)[:, None]


def mean_words(words_MWD: Tensor, counts_MW: Tensor) -> Tensor:
    """(M, D): the mean of the words of each text. A frame's cosine with it is the mean of those with the words."""
    total_MD = torch.einsum("mwd,mw->md", words_MWD, counts_MW.to(words_MWD.dtype))
    return total_MD / counts_MW.sum(1).clamp(min=1)[:, None]


def fine_weights(steps_CND: Tensor, there_CN: Tensor, frames_BLD: Tensor, *, tau: float) -> Tensor:
    """Every frame looks for the step that it shows, and frames that show one well count.

    Args:
        steps_CND: each step as the mean of its words, these of length 1 (`mean_words`).
        there_CN: bool, which steps a class has: one at least.
        frames_BLD: of length 1.
        tau: temperature of the softmax over frames.

    Returns:
        (B, C, L) weights that sum to 1 over the frames.
    """
    cosines_BCNL = torch.einsum("cnd,bld->bcnl", steps_CND, frames_BLD)
    best_BCL = cosines_BCNL.masked_fill(~there_CN[:, :, None], -torch.inf).amax(2)
    return (best_BCL / tau).softmax(-1)
