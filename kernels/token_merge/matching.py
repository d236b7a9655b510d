"""Which tokens merge with which, as indices that turn merging and its gradient into gathers.

B images, N tokens of each, M tokens after merging, E tokens at even positions.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Matching(NamedTuple):
    """Where N tokens go when they become M: first the even ones that stay, in their order, then all odd ones."""

    target_BN: Tensor
    """(B, N) int32: the merged token that each token goes into."""

    order_BN: Tensor
    """(B, N) int32: the tokens sorted by their target; those of one target in their order."""

    offsets_BM: Tensor
    """(B, M + 1) int32: merged token m is made of the tokens order_BN[b, offsets_BM[b, m] : offsets_BM[b, m + 1]]."""

    @property
    def tokens(self) -> int:
        """N: tokens before merging."""
        return self.target_BN.shape[1]

    @property
    def merged(self) -> int:
        """M: tokens after merging."""
        return self.offsets_BM.shape[1] - 1


def most_merges(tokens: int, protect: int) -> int:
    """How many of `tokens` can merge away: half of those that are not protected, rounded down."""
    return max(0, tokens - protect) // 2


def protected(protect: int) -> tuple[int, int]:
    """How many of the even and of the odd tokens are among the first `protect`."""
    return (protect + 1) // 2, protect // 2


def arrange(best_BE: Tensor, partner_BE: Tensor, r: int, protect: int, tokens: int) -> Matching:
    """Let the r even tokens of the best similarities merge; of equal ones those at the lowest positions.

    Args:
        best_BE: (B, E) the best similarity of each even token; none is NaN.
        partner_BE: (B, E) int64: the odd token that it is with, counted among the odd ones.
        r: how many merge, at most `most_merges`.
        protect: this many of the first tokens do not.
        tokens: N.
    """
    B, E = best_BE.shape
    start, _ = protected(protect)
    chosen_Br = best_BE[:, start:].sort(dim=1, descending=True, stable=True).indices[:, :r] + start
    merges_BE = torch.zeros_like(best_BE, dtype=torch.bool).scatter_(1, chosen_Br, True)
    odd_target = torch.arange(E - r, tokens - r, device=best_BE.device)
    target_BN = partner_BE.new_empty((B, tokens))
    target_BN[:, ::2] = torch.where(merges_BE, E - r + partner_BE, (~merges_BE).cumsum(1) - 1)
    target_BN[:, 1::2] = odd_target
    count_BM = torch.zeros_like(target_BN[:, r:]).scatter_add_(1, target_BN, torch.ones_like(target_BN))
    offsets_BM = torch.nn.functional.pad(count_BM.cumsum(1), (1, 0))
    order_BN = target_BN.argsort(dim=1, stable=True)
    return Matching(target_BN.int(), order_BN.int(), offsets_BM.int())
