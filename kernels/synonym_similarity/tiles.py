"""The tiles of the products on the GPU, as constants: nothing is tuned at run time."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tiles:
    """One kernel's tile and how it runs."""

    rows: int
    """Videos in a tile; in a gradient, rows of it."""
    columns: int
    """Classes in a tile; in a gradient, part of the width D."""
    depth: int
    """What one step sums over."""
    warps: int
    stages: int


SCORES = {
    (80, 16): Tiles(32, 64, 32, 8, 2),
    (90, 16): Tiles(64, 64, 32, 8, 2),
    (100, 16): Tiles(64, 64, 32, 8, 2),
    (80, 32): Tiles(32, 64, 32, 8, 1),
    (90, 32): Tiles(32, 64, 32, 8, 1),
    (100, 32): Tiles(32, 64, 32, 8, 1),
}
"""By architecture and bits of an element. 32 bits are IEEE float32, which no tensor core multiplies."""

GRADIENT = {
    (80, 16): Tiles(64, 64, 32, 4, 2),
    (90, 16): Tiles(64, 64, 32, 4, 2),
    (100, 16): Tiles(64, 64, 32, 4, 2),
    (80, 32): Tiles(32, 64, 32, 8, 1),
    (90, 32): Tiles(32, 64, 32, 8, 1),
    (100, 32): Tiles(32, 64, 32, 8, 1),
}

PROGRAMS = 256
"""Programs that keep a device busy: fewer tiles share out their sums, a gradient in at most `MAX_SPLITS` parts."""

MAX_SPLITS = 16


def bits(dtype: torch.dtype) -> int:
    """The size of an element, as the tables have it."""
    return 8 * dtype.itemsize


def ceil(count: int, size: int) -> int:
    """How many of `size` hold `count`."""
    return -(-count // size)
