"""How ragged rows are cut into classes: class c owns the rows offsets[c] : offsets[c + 1].

C classes, P rows (prompts, synonyms) of all classes together.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

TILE_COLUMNS = 64
"""Rows of text that a kernel's tile is planned for."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Segments:
    """Ragged rows, checked once on the host; make it with `from_lengths` or `from_offsets` and keep it.

    No op reads it back from the device, so using it never waits for the device.
    """

    lengths: tuple[int, ...]
    """Rows of each class, each at least 1."""

    longest: int
    """Rows of the longest class."""

    slot: int
    """Columns that one class takes in a kernel's tile, a power of two."""

    offsets: Tensor
    """(C + 1,) int64: the first row of each class, and P at the end."""

    owners: Tensor
    """(P,) int32: the class of each row."""

    order: Tensor
    """(C,) int32: the classes from the longest to the shortest, so that a tile holds classes of like length."""

    @classmethod
    def from_lengths(cls, lengths: Sequence[int] | Tensor, device: torch.device | str = "cpu") -> "Segments":
        """Cut rows into classes of these lengths, in order.

        Args:
            lengths: C integers, each at least 1. A tensor on a device is read back once.
            device: where the index tensors go; it must be the device of the embeddings.

        Raises:
            ValueError: there is no class, or a class is empty (names its index) or not an integer.
        """
        values = _integers("lengths", lengths)
        if not values:
            raise ValueError("lengths must hold at least one class, got none")
        for index, length in enumerate(values):
            if length < 1:
                raise ValueError(f"class {index} must have at least one row, got {length}")
        order = sorted(range(len(values)), key=lambda index: -values[index])
        lengths_C = torch.tensor(values, dtype=torch.int64)
        owners = torch.repeat_interleave(torch.arange(len(values), dtype=torch.int32), lengths_C)
        return cls(
            lengths=tuple(values),
            longest=values[order[0]],
            slot=_slot([values[index] for index in order]),
            offsets=torch.tensor([0, *itertools.accumulate(values)], dtype=torch.int64).to(device),
            owners=owners.to(device),
            order=torch.tensor(order, dtype=torch.int32).to(device),
        )

    @classmethod
    def from_offsets(cls, offsets: Sequence[int] | Tensor, device: torch.device | str | None = None) -> "Segments":
        """Cut rows at these C + 1 offsets: the first is 0, each class takes at least one row.

        Args:
            offsets: C + 1 increasing integers. A tensor on a device is read back once.
            device: where the index tensors go; by default the device of `offsets`, or the CPU.

        Raises:
            ValueError: the first offset is not 0, or a class is empty (names its index).
        """
        values = _integers("offsets", offsets)
        if not values or values[0] != 0:
            raise ValueError(f"offsets must start with 0, got {values[:1] or 'none'}")
        if device is None:
            device = offsets.device if isinstance(offsets, Tensor) else "cpu"
        return cls.from_lengths([end - start for start, end in itertools.pairwise(values)], device)

    @property
    def total(self) -> int:
        """P: rows of all classes."""
        return self.owners.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the index tensors are."""
        return self.offsets.device

    def __len__(self) -> int:
        """C: how many classes there are."""
        return len(self.lengths)

    def to(self, device: torch.device | str) -> "Segments":
        """The same segments with their index tensors on another device."""
        return replace(
            self, offsets=self.offsets.to(device), owners=self.owners.to(device), order=self.order.to(device)
        )


def as_segments(segments: Segments | Sequence[int] | Tensor, text_PD: Tensor, name: str = "text_PD") -> Segments:
    """Segments for the rows of `text_PD`, which is called `name`, from segments or from C + 1 offsets.

    Raises:
        ValueError: the segments hold another number of rows, or lie on another device.
    """
    if not isinstance(segments, Segments):
        segments = Segments.from_offsets(segments, text_PD.device)
    if segments.total != text_PD.shape[0]:
        raise ValueError(f"{name} must have {segments.total} rows (those of the segments), got {text_PD.shape[0]}")
    if segments.device != text_PD.device:
        raise ValueError(f"segments must be on {text_PD.device} (the device of {name}), got {segments.device}")
    return segments


def _integers(name: str, values: Sequence[int] | Tensor) -> list[int]:
    if isinstance(values, Tensor):
        if values.dim() != 1 or values.is_floating_point() or values.dtype == torch.bool:
            raise ValueError(f"{name} must be integers in one dimension, got {values.dtype} {tuple(values.shape)}")
        return [int(value) for value in values.tolist()]
    for value in values:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(f"{name} must be integers, got {value!r}")
    return [int(value) for value in values]


def _slot(lengths: list[int]) -> int:
    """The widest slot that needs at most a tenth more tiles than the best one, for lengths sorted longest first.

    A tile is `TILE_COLUMNS // slot` classes wide and passes over its longest class in steps of one slot. Narrow slots
    waste fewer columns on ragged ends, but each class in a tile costs registers.
    """
    slots = [1 << power for power in range(2, TILE_COLUMNS.bit_length())]
    tiles = {slot: sum(-(-longest // slot) for longest in lengths[:: TILE_COLUMNS // slot]) for slot in slots}
    return max(slot for slot in slots if tiles[slot] <= 1.1 * min(tiles.values()))
