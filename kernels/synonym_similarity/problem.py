"""What the implementations of the loss are given, already checked."""

from typing import NamedTuple

from torch import Tensor


class Problem(NamedTuple):
    """The arguments of the registered op, in its order, but for the implementation."""

    video_BD: Tensor
    means_CD: Tensor
    """The classes: wide, as the means op gives them."""
    scale: Tensor
    """0-d, any floating dtype."""
    target_B: Tensor
    """int64."""
    negatives_GD: Tensor | None
    """Means of the groups of negatives, wide."""
    negative_B: Tensor | None
    """int64, the group of each video, -1 for none; None where video b has group b."""
    label_smoothing: float
    ignore_index: int
    normalize: bool

    @property
    def sizes(self) -> tuple[int, int, int]:
        """B videos, C classes, D width."""
        B, D = self.video_BD.shape
        return B, self.means_CD.shape[0], D


class Kept(NamedTuple):
    """What the forward of the loss keeps for its backward."""

    inverse_B: Tensor
    """1 / length of each video; 1 without `normalize`."""
    own_B: Tensor
    """The similarity of each video and its negative, before the scale; empty without negatives."""
    top_B: Tensor
    """The highest score of each video, that of its negative among them."""
    sum_B: Tensor
    """The sum of the exponentials of the scores below the highest. With it, a softmax has the digits that torch's has;
    the logarithm, large as the scores are, would cost it some."""


class Upstream(NamedTuple):
    """The gradients of the outputs of the loss."""

    loss_B: Tensor
    lse_B: Tensor


class Gradients(NamedTuple):
    """Gradients of the loss, each empty where it is not wanted."""

    video_BD: Tensor
    means_CD: Tensor
    scale: Tensor
    negatives_GD: Tensor
