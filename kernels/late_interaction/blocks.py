"""How the CPU path cuts videos times classes into blocks that fit the caches.

B videos, V frames, C classes, P prompts of all classes; in a block, n classes of L prompts and b videos.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_ELEMENTS = 1 << 18
"""Most scores in one block, unless one video against one class has more.

Twice as many are as fast and take twice the memory."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a tensor: a run where `index` is None, which costs no copy, else those that `index` lists."""

    first: int
    count: int
    index: Tensor | None

    def take(self, tensor: Tensor) -> Tensor:
        """These rows of `tensor`: a view of a run, else a copy."""
        return _run(tensor, 0, self.first, self.count) if self.index is None else tensor.index_select(0, self.index)

    def add(self, tensor: Tensor, value: Tensor) -> None:
        """Add `value` to these rows of `tensor`, in place."""
        if self.index is None:
            _run(tensor, 0, self.first, self.count).add_(value)
        else:
            tensor.index_add_(0, self.index, value)

    def add_product(self, tensor: Tensor, left: Tensor, right: Tensor) -> None:
        """Add the matrix product of `left` and `right` to these rows of `tensor`, in place."""
        if self.index is None:
            _run(tensor, 0, self.first, self.count).addmm_(left, right)
        else:
            tensor.index_add_(0, self.index, left @ right)

    def put(self, tensor: Tensor, value: Tensor) -> None:
        """Overwrite these rows of `tensor`."""
        if self.index is None:
            _run(tensor, 0, self.first, self.count).copy_(value)
        else:
            tensor.index_copy_(0, self.index, value)


class Block(NamedTuple):
    """Classes of one length against some videos."""

    classes: Rows
    prompts: Rows
    """Of text: number c * L + j is prompt j of the block's class c."""
    first_video: int
    shape: tuple[int, int, int, int]
    """n, L, V, b"""

    def videos(self, tensor: Tensor, dim: int = -1) -> Tensor:
        """The block's part of a tensor whose dimension `dim` is the videos."""
        return _run(tensor, dim, self.first_video, self.shape[3])


def _run(tensor: Tensor, dim: int, first: int, count: int) -> Tensor:
    """A view of `count` entries; of all of them often, and then even a view costs more than none."""
    return tensor if count == tensor.shape[dim] else tensor.narrow(dim, first, count)


def blocks(offsets: Tensor, order: Tensor, V: int, B: int) -> Iterator[Block]:
    """Classes in `order` (by length), cut where the length changes and where a block would be too large."""
    firsts, lengths = offsets.tolist(), offsets.diff().tolist()
    for length, group in itertools.groupby(order.tolist(), key=lengths.__getitem__):
        videos = max(1, min(B, BLOCK_ELEMENTS // (length * V)))
        most = max(1, BLOCK_ELEMENTS // (length * V * videos))
        while classes := list(itertools.islice(group, most)):
            n, first = len(classes), classes[0]
            if classes == list(range(first, first + n)):
                rows = Rows(first, n, None), Rows(firsts[first], n * length, None)
            else:
                index_n = torch.tensor(classes)
                prompt_nL = offsets.index_select(0, index_n)[:, None] + torch.arange(length)
                rows = Rows(first, n, index_n), Rows(firsts[first], n * length, prompt_nL.flatten())
            for start in range(0, B, videos):
                yield Block(*rows, start, (n, length, V, min(videos, B - start)))
