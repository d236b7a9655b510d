"""What the implementations of late interaction are given, already checked."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Problem(NamedTuple):
    """The arguments of the registered op, in its order, but for what is wanted back."""

    video_BVD: Tensor
    text_PD: Tensor
    mask_BV: Tensor | None
    offsets: Tensor
    owners: Tensor
    order: Tensor
    slot: int
    weights: Sequence[float]
    mean: bool

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """B videos, V frames, C classes, P prompts of all classes, D width."""
        B, V, D = self.video_BVD.shape
        return B, V, self.order.shape[0], self.text_PD.shape[0], D
