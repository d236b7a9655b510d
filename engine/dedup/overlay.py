"""Whether two videos are the same when laid over each other in time: by their hashes first, then by their sketches.

Let A be the video of the coarser cells, each `ratio` cells of B long. The same moment lies in cells i of A and j of B
with offset <= j - i * ratio <= offset + ratio, where the offset is one for the whole pair: a reversed copy fails, as
its offsets go through all values. So a picture of one video lies in time between neighbouring pictures of the other,
and at every place it should lie between their grey levels; what it lies outside is the gap. It may be a grey level and
a share of what changes between those neighbours, for what moves fast is not met halfway.

Hashes say at which offsets the videos may be the same. There the sketches decide: the gaps, root mean square over
cells, are what a copy may have; of what moves in one video hardly anything is still in the other; and most of what
moves in the shorter is laid over the longer, for before a still camera nothing happens twice in the same way often.

Legend: P pairs, R pairs at one offset, A and B cells of the pair's two videos, J places among B's, X places of a
picture, V videos, L cells of a video.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ..media import sketch
from .config import FAR, FAR_GAP, DedupConfig
from .prints import Ints, Prints, Words

UNSHOWN = 255  # in place of a distance: one of the videos shows nothing there
OFFSETS = 64  # at most so many are tried

FULL_CONTRAST = 12  # grey levels, root mean square: in a picture of less, a gap counts more
MEETING = 5  # a gap may grow by 1/MEETING of what changes between the two neighbours
STEADY = 2  # level of time resolution from which on pictures are means of so many that copies hardly differ
MOVING = 12  # grey levels: a smaller change may be noise
STILL = 3  # a motion is lost where the other video has less than 1/STILL of it
UNIT = 64  # gaps are counted in 1/UNIT grey levels, so that sums are exact

Bools = NDArray[np.bool_]
Shorts = NDArray[np.int16]


def match(prints: Prints, pairs: Ints, config: DedupConfig) -> Bools:
    """Lay the two videos of every pair over each other.

    Args:
        prints: of all videos.
        pairs: (P, 2) videos with hashes; the levels of the two differ by the same number in all pairs.
        config: thresholds.

    Returns:
        (P,) whether the two are the same.

    Raises:
        ValueError: a sketch is malformed.
    """
    pairs = pairs[:, ::-1] if prints.levels[pairs[0, 0]] < prints.levels[pairs[0, 1]] else pairs
    ratio = 2 ** int(np.abs(np.diff(prints.levels[pairs[0]]))[0])
    same_P = np.zeros(len(pairs), np.bool_)
    offsets_PO, good_PO = _offsets(prints, pairs, ratio, config)
    if not good_PO.any():
        return same_P
    videos, places = np.unique(pairs, return_inverse=True)
    shown = _Shown.of(prints, videos)
    between_b, between_a = shown.between(ratio + 1), shown.between(2 if ratio == 1 else 3)
    a_P, b_P = places.reshape(pairs.shape).T
    moving_V = _moves(shown.motion_VL).sum(axis=1)
    moving_P = np.where(shown.cells_V[a_P] * ratio <= shown.cells_V[b_P], moving_V[a_P], moving_V[b_P])
    allowed_P = config.max_gap * UNIT / 2 ** np.minimum(prints.levels[pairs[:, 0]], STEADY)
    for nth in range(offsets_PO.shape[1]):
        rows = np.flatnonzero(good_PO[:, nth] & ~same_P)
        if len(rows):
            a_R, b_R, offset_R1 = a_P[rows], b_P[rows], offsets_PO[rows, nth, None]
            cells_L = np.arange(shown.motion_VL.shape[1])
            a_in_b = _compare(shown, a_R, between_b, b_R, cells_L * ratio + offset_R1)
            b_in_a = _compare(shown, b_R, between_a, a_R, (cells_L - offset_R1) // ratio - 1)
            shorter = np.where(shown.cells_V[a_R] * ratio <= shown.cells_V[b_R], a_in_b.moving_R, b_in_a.moving_R)
            told_R = shorter >= config.min_share * moving_P[rows]
            same_P[rows] = told_R & _is_same(a_in_b, b_in_a, ratio, allowed_P[rows], config)
    return same_P


def _offsets(prints: Prints, pairs: Ints, ratio: int, config: DedupConfig) -> tuple[Ints, Bools]:
    """(P, OFFSETS) offsets by rising distance of the hashes, the smaller first among equals; and which are any good."""
    a_PA, b_PB = _padded(prints, pairs[:, 0]), _padded(prints, pairs[:, 1])
    nearest_PAJ = _nearest(a_PA, b_PB, ratio)
    shorter_P = np.minimum((a_PA != 0).sum(axis=1), (b_PB != 0).sum(axis=1) / ratio)
    needed_P = np.maximum(config.min_cells, config.min_share * shorter_P)
    cells_A, starts = np.arange(a_PA.shape[1]), nearest_PAJ.shape[2]
    offsets = np.arange(-ratio * len(cells_A), starts)
    means_PO = np.full((len(pairs), len(offsets)), np.inf)
    for place, offset in enumerate(offsets.tolist()):
        start_A = cells_A * ratio + offset
        laid_A = cells_A[(start_A >= 0) & (start_A < starts)]
        distance_PA = nearest_PAJ[:, laid_A, start_A[laid_A]]
        shown_P = (distance_PA != UNSHOWN).sum(axis=1)
        total_P = np.where(distance_PA != UNSHOWN, distance_PA, 0).sum(axis=1)
        enough_P = (shown_P >= needed_P) & (shorter_P >= config.min_cells)
        means_PO[:, place] = np.where(enough_P, total_P / np.maximum(shown_P, 1), np.inf)
    best_PO = np.argsort(means_PO, axis=1, kind="stable")[:, :OFFSETS]
    # Cells of B are counted from `ratio` before its first, as `_nearest` pads it.
    return offsets[best_PO] - ratio, np.take_along_axis(means_PO, best_PO, axis=1) <= config.max_mean_distance


def _nearest(a_PA: Words, b_PB: Words, ratio: int) -> NDArray[np.uint8]:
    """(P, A, B + ratio) bits from each of A's hashes to the nearest of B's at places J - ratio to J, at most `FAR`."""
    apart_PAB = np.minimum(np.bitwise_count(a_PA[:, :, None] ^ b_PB[:, None, :]), FAR)
    apart_PAB[(a_PA == 0)[:, :, None] | (b_PB == 0)[:, None, :]] = UNSHOWN
    padded = np.pad(apart_PAB, ((0, 0), (0, 0), (ratio, ratio)), constant_values=UNSHOWN)
    width = apart_PAB.shape[2] + ratio
    nearest_PAJ = padded[:, :, :width].copy()
    for step in range(1, ratio + 1):
        np.minimum(nearest_PAJ, padded[:, :, step : step + width], out=nearest_PAJ)
    return nearest_PAJ


def _padded(prints: Prints, videos: Ints) -> Words:
    lengths = prints.starts[videos + 1] - prints.starts[videos]
    cells = np.arange(lengths.max())
    inside = cells < lengths[:, None]
    places = np.where(inside, prints.starts[videos][:, None] + cells, 0)
    return np.where(inside, prints.words_W[places], np.uint64(0))


@dataclass(frozen=True, slots=True)
class _Shown:
    """Sketches of some videos, padded to one length."""

    low_VLX: Shorts
    high_VLX: Shorts
    motion_VL: NDArray[np.uint8]
    change_VL: Ints
    """Between the pictures of a stretch, root mean square over places, in 1/UNIT grey levels; 0 for a single one."""
    known_VL: Bools
    """Cells whose picture tells something."""
    cells_V: Ints

    @classmethod
    def of(cls, prints: Prints, videos: Ints) -> "_Shown":
        sketches = [prints.sketch(video) for video in videos.tolist()]
        cells_V = np.array([len(one.motion_N) for one in sketches])
        shape = len(videos), int(cells_V.max()), sketch.PLACES
        low_VLX, high_VLX = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
        motion_VL = np.zeros(shape[:2], np.uint8)
        for place, one in enumerate(sketches):
            cells = len(one.motion_N)
            low_VLX[place, :cells], high_VLX[place, :cells] = one.low_NX, one.high_NX
            motion_VL[place, :cells] = one.motion_N
        change_VL = np.zeros(shape[:2], np.int64)
        return cls(low_VLX, high_VLX, motion_VL, change_VL, _padded(prints, videos) != 0, cells_V)

    def between(self, width: int) -> "_Shown":
        """What is shown between the first and the last of `width` cells, at the place of the first."""
        length = max(0, self.motion_VL.shape[1] - width + 1)
        steps = [slice(step, step + length) for step in range(width)]
        double_VLX = self.low_VLX + self.high_VLX
        doubles = [double_VLX[:, step] for step in steps]
        return _Shown(
            reduce(np.minimum, [self.low_VLX[:, step] for step in steps]),
            reduce(np.maximum, [self.high_VLX[:, step] for step in steps]),
            reduce(np.maximum, [self.motion_VL[:, step] for step in steps]),
            _mean_square_root(reduce(np.maximum, doubles) - reduce(np.minimum, doubles)) // 2,
            self.known_VL[:, :length],
            self.cells_V - (width - 1),
        )


def _is_same(
    a_in_b: "_Compared", b_in_a: "_Compared", ratio: int, allowed_R: NDArray[np.float64], config: DedupConfig
) -> Bools:
    """(R,) whether the sketches agree at one offset per pair."""
    enough_R = np.minimum(a_in_b.cells_R, b_in_a.cells_R) >= config.min_cells - 1  # the last lies between no two
    squares_R, cells_R = a_in_b.squares_R, a_in_b.cells_R
    if ratio == 1:  # a mean over a cell of A is none of B's pictures, though it lies between them
        squares_R, cells_R = squares_R + b_in_a.squares_R, cells_R + b_in_a.cells_R
    lost_R, moving_R = a_in_b.lost_R + b_in_a.lost_R, a_in_b.moving_R + b_in_a.moving_R
    return enough_R & (squares_R <= allowed_R**2 * cells_R) & (lost_R <= config.max_lost_motion * moving_R)


@dataclass(frozen=True, slots=True)
class _Compared:
    cells_R: Ints
    squares_R: Ints
    """Sum over the cells of the square of the gap by what is allowed, in 1/UNIT."""
    moving_R: Ints
    lost_R: Ints


def _compare(shown: _Shown, these_R: Ints, between: _Shown, others_R: Ints, first_RL: Ints) -> _Compared:
    """Lay every cell of `these` between the cells of `others` that begin at `first_RL`."""
    inside_RL = (first_RL >= 0) & (first_RL < between.cells_V[others_R][:, None])
    inside_RL &= np.arange(first_RL.shape[1]) < shown.cells_V[these_R][:, None]
    row, cell = np.nonzero(inside_RL)
    these, others = (these_R[row], cell), (others_R[row], first_RL[row, cell])
    low_X, high_X = shown.low_VLX[these], shown.high_VLX[these]
    gap_X = np.maximum(np.maximum(between.low_VLX[others] - high_X, low_X - between.high_VLX[others]), 0)
    contrast = np.clip(_mean_square_root(low_X + high_X) // (2 * UNIT), 1, FULL_CONTRAST)
    allowed = UNIT + between.change_VL[others] // MEETING
    gap = np.minimum(_mean_square_root(gap_X) * FULL_CONTRAST * UNIT // (contrast * allowed), FAR_GAP * UNIT)
    motion, other_motion = shown.motion_VL[these], between.motion_VL[others].astype(np.int64)
    moving = _moves(motion)
    lost = moving & (other_motion != sketch.UNKNOWN) & (motion > STILL * other_motion)
    known = shown.known_VL[these]

    def per_pair(values: NDArray[np.generic]) -> Ints:
        return np.bincount(row, values, minlength=len(these_R)).astype(np.int64)

    return _Compared(per_pair(known), per_pair(np.where(known, gap**2, 0)), per_pair(moving), per_pair(lost))


def _moves(motion: NDArray[np.uint8]) -> Bools:
    moves: Bools = (motion > MOVING) & (motion != sketch.UNKNOWN)
    return moves


def _mean_square_root(values_X: Shorts) -> Ints:
    """Root of the mean square over the last axis, in 1/UNIT, rounded down."""
    sums: NDArray[np.int64] = (values_X.astype(np.int64) ** 2).sum(axis=-1)
    return (np.sqrt(sums) * (UNIT / sketch.SIDE)).astype(np.int64)
