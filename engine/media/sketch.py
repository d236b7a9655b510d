"""The verifying half of a fingerprint: what a video shows, coarsely, where it changes, and how much it moves.

A hash says which pictures look alike at large; on a flat or a still scene that is true of pictures that are not the
same. So every cell of time also has a picture of 8x8 grey levels about their mean, kept as what differs from the
video's own background (the median of each place over time): the `KEPT` largest differences exactly, of all others only
that they are no larger. Small things that move before a still camera are thus kept exactly, a picture that changes
everywhere in its largest parts, in 24 bytes for both. A picture is read back as an interval per place, and two pictures
are as far apart as their intervals leave a gap: what was not kept never makes a copy look different.

One byte more is the largest change of any place since the sample before, over all samples of a cell: thinning
long videos to their stillest pictures hides what passes through them, and this byte remembers it.

Legend: N cells of time, X 64 places of a picture in rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 8  # places across and down
PLACES = SIDE**2
STEP = 2  # grey levels, the precision of what is kept
FLOOR = 1  # steps: a smaller difference from the background is noise and not kept
KEPT = 15
UNKNOWN = 255
"""In place of a motion: the video begins here, so what came before is not known."""

BACKGROUND_WORDS = PLACES // 8
CELL_WORDS = 3
"""64-bit words of one cell: a bit for each place that is kept; their values in steps, in order, and the motion."""

Grey = NDArray[np.int64]
Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Sketch:
    """The pictures of one video as intervals of grey levels about a picture's mean."""

    low_NX: NDArray[np.int16]
    high_NX: NDArray[np.int16]
    motion_N: NDArray[np.uint8]
    """Grey levels; `UNKNOWN` where the video begins."""


def words_of(pictures_NX: Grey, known_N: NDArray[np.bool_], motion_N: NDArray[np.uint8]) -> Words:
    """Write a sketch.

    Args:
        pictures_NX: (N, 64) grey levels about each picture's mean, in 1/256.
        known_N: (N,) pictures that tell something, of which the background is the median; at least one.
        motion_N: (N,) uint8 grey levels.

    Returns:
        (BACKGROUND_WORDS + CELL_WORDS * N,) words.
    """
    steps_NX = np.clip((pictures_NX + STEP * 128) // (STEP * 256), -127, 127)
    ordered_KX = np.sort(steps_NX[known_N], axis=0)
    background_X = ordered_KX[(len(ordered_KX) - 1) // 2]
    apart_NX = np.abs(steps_NX - background_X)
    largest_NK = np.argsort(-apart_NX, axis=1, kind="stable")[:, :KEPT]  # the first of equal ones
    kept_NX = np.zeros(steps_NX.shape, np.bool_)
    np.put_along_axis(kept_NX, largest_NK, np.take_along_axis(apart_NX, largest_NK, axis=1) > FLOOR, axis=1)
    row_N, place_N = np.nonzero(kept_NX)
    tail = np.zeros((len(steps_NX), KEPT + 1), np.uint8)
    tail[row_N, (np.cumsum(kept_NX, axis=1) - 1)[kept_NX]] = steps_NX[row_N, place_N].astype(np.int8).view(np.uint8)
    tail[:, KEPT] = motion_N
    cells = np.concatenate([np.packbits(kept_NX, axis=1, bitorder="little"), tail], axis=1)
    found = np.concatenate([background_X.astype(np.int8).view(np.uint8), cells.ravel()])
    return found.view("<u8").astype(np.uint64)


def read(words: Words) -> Sketch:
    """Read what `words_of` wrote.

    Raises:
        ValueError: a cell keeps more than `KEPT` places.
    """
    raw = words.astype("<u8").view(np.uint8)
    background_X = raw[:PLACES].view(np.int8).astype(np.int16)
    cells = raw[PLACES:].reshape(-1, 8 * CELL_WORDS)
    kept_NX = np.unpackbits(cells[:, :8], axis=1, bitorder="little").view(np.bool_)
    count_N = kept_NX.sum(axis=1)
    if (count_N > KEPT).any():
        raise ValueError(f"a cell of a sketch must keep at most {KEPT} places, got {count_N.max()}")
    values_NK = cells[:, 8:].view(np.int8).astype(np.int16)
    rank_NX = np.where(kept_NX, np.cumsum(kept_NX, axis=1) - 1, 0)
    exact_NX = np.take_along_axis(values_NK, rank_NX, axis=1)
    apart_NX = np.where(kept_NX, np.abs(exact_NX - background_X), 255)
    slack_N = np.where(count_N == KEPT, apart_NX.min(axis=1), FLOOR)
    centre_NX = np.where(kept_NX, exact_NX, background_X) * STEP
    slack_NX = (np.where(kept_NX, 0, slack_N[:, None]) * STEP + STEP // 2).astype(np.int16)
    return Sketch(centre_NX - slack_NX, centre_NX + slack_NX, cells[:, 8 + KEPT].copy())
