"""A perceptual fingerprint of a video: hashes of its pictures on a grid of presentation time, and a sketch of them.

Each hash is the signs of a picture's 64 lowest DCT coefficients but the mean (after Zauner, "Implementation and
benchmarking of perceptual image hash functions", 2010): scaling, recompression and changes of brightness or contrast
leave most signs, mirroring flips those of the odd columns. Hashes find what may be a copy; `sketch` holds what then
tells copies from look-alikes. Everything is integer arithmetic, so the bits depend on the decoded pixels alone.

Time is cut into cells of an eighth of a second, so a copy that starts anywhere else is off by a sixteenth at most. When
a video fills more than `MAX_CELLS` of them, pairs of cells become one, again and again, and the stiller picture
of the two stays. That choice hangs on the pictures, not on where the video starts, so a long video and a copy cut out
of it keep mostly the same ones (`dedup` says what is found).

A fingerprint of N cells takes 72 + 32 N bytes, 1096 at most.

Legend: N cells, H height, W width, U vertical and V horizontal frequencies.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from . import sketch

CELLS_PER_SECOND = 8
MAX_CELLS = 32
VERSION = 2
"""In the top byte of a fingerprint's first word; the lowest byte says that a cell is 2**level eighths of a second."""

SIDE = 64  # cells across and down of the thumbnail that is kept of a picture
BORDER_LEVEL = 10  # grey level up to which an edge counts as a black border (black is 0 here; a night is not black)
FINE = 8  # parts of a thumbnail's cell to which the edge of a border is found
MAX_BORDER = SIDE // 3
GRID = 32  # cells across and down that go into the DCT
FREQUENCIES = 11
DEAD_ZONE = 24  # a coefficient counts as positive above this fraction (1/n) of the picture's contrast
MIN_CONTRAST = 2  # grey levels, root mean square: less is a flat picture
MIN_STRONG = 12  # coefficients outside the dead zone: fewer is a mere gradient

Grey = NDArray[np.int64]


class Fingerprinter:
    """Takes frames as somebody else decodes them, so that a video is decoded once for probing and fingerprint."""

    def __init__(self) -> None:
        self._level = 0
        self._cells: dict[int, _Cell] = {}
        self._held: VideoFrame | None = None  # the newest frame: how long it shows, the next one tells
        self._start = self._shown_from = self._shown_for = 0.0
        self._before: Grey | None = None
        self._to_grey = VideoReformatter()  # one for all: setting it up costs more than converting a small frame

    def add(self, frame: VideoFrame, seconds: float) -> None:
        """Take the next frame.

        Args:
            frame: as it comes from the decoder, in presentation order; not to be changed afterwards.
            seconds: when it is shown; only differences count. A frame that goes back in time is left out.
        """
        if not math.isfinite(seconds):
            return
        if self._held is None:
            self._start = seconds
        elif seconds <= self._start + self._shown_from:
            return
        else:
            self._shown_for = seconds - self._start - self._shown_from
            self._keep(self._held, self._shown_from, seconds - self._start)
        self._held, self._shown_from = frame, seconds - self._start

    def digest(self) -> bytes:
        """The fingerprint of the frames so far; ends the intake.

        Returns:
            Little-endian 64-bit words: a header, one hash per cell, 0 where the picture tells nothing, then the sketch
            (`sketch.words_of`). Empty when no picture tells anything.
        """
        if self._held is not None:
            lasting = self._shown_for or 1 / CELLS_PER_SECOND
            self._keep(self._held, self._shown_from, self._shown_from + lasting)
            self._held = None
        if not self._cells:
            return b""
        cells = [self._cells[cell] for cell in sorted(self._cells)]
        pictures_NHW = np.stack([cell.picture for cell in cells])
        borders = _border(pictures_NHW), _border(pictures_NHW.transpose(0, 2, 1))
        hashes = _hashes(_centred(pictures_NHW, *borders))
        if not hashes.any():
            return b""
        header = np.array([VERSION << 56 | self._level], np.uint64)
        motion_N = np.array([cell.motion for cell in cells], np.uint8)
        means_NHW = _centred(np.stack([cell.total // cell.samples for cell in cells]), *borders)
        sketched = sketch.words_of(_blocks(means_NHW, sketch.SIDE).reshape(len(cells), -1), hashes != 0, motion_N)
        return np.concatenate([header, hashes, sketched]).astype("<u8").tobytes()

    def _keep(self, frame: VideoFrame, start: float, end: float) -> None:
        """Put a frame into the cells at whose middle it is shown."""
        first, last = (math.ceil(moment * CELLS_PER_SECOND - 0.5) for moment in (start, end))
        if first == last:
            return
        picture = self._thumbnail(frame)
        change, motion = 0, sketch.UNKNOWN
        if self._before is not None:
            difference = picture - self._before
            change = int(np.abs(difference).sum())
            motion = min(int(np.abs(_blocks(difference[None], sketch.SIDE)).max()) // 256, sketch.UNKNOWN - 1)
        self._before = picture
        while (last - 1) >> self._level >= MAX_CELLS:
            self._halve()
        flat = _variance(picture) < (MIN_CONTRAST * 256) ** 2
        for cell in range(first >> self._level, ((last - 1) >> self._level) + 1):
            # A frame that is shown for long counts once in a cell: exact while cells are short, as most videos' are.
            self._offer(cell, _Cell((flat, change, first), picture, picture, 1, motion))
            motion = 0  # further cells of this frame are as still as it is

    def _thumbnail(self, frame: VideoFrame) -> Grey:
        """(SIDE, SIDE) grey levels in 1/256, upright."""
        grey_HW = self._to_grey.reformat(frame, format="gray", threads=1).to_ndarray().astype(np.uint8, copy=False)
        height, width = grey_HW.shape
        bands_WR = np.ascontiguousarray(_shrink(grey_HW, SIDE).T)  # twice as fast as in strides
        small = _shrink(bands_WR, SIDE).T * 256 // (height * width)
        return np.rot90(small.astype(np.int64, copy=False), int(frame.rotation) // 90)

    def _halve(self) -> None:
        self._level += 1
        cells, self._cells = self._cells, {}
        for cell, offered in cells.items():
            self._offer(cell // 2, offered)

    def _offer(self, cell: int, new: "_Cell") -> None:
        old = self._cells.get(cell)
        self._cells[cell] = new if old is None else old.joined(new)


@dataclass(frozen=True, slots=True)
class _Cell:
    rank: tuple[bool, int, int]
    """Of two pictures the one of lower rank stays: not flat, then stiller, then earlier."""
    picture: Grey
    total: Grey
    """Sum of all samples of the cell."""
    samples: int
    motion: int
    """The largest change of any place, over all samples of the cell, grey levels."""

    def joined(self, other: "_Cell") -> "_Cell":
        stiller = other if other.rank < self.rank else self
        samples, motion = self.samples + other.samples, max(self.motion, other.motion)
        return _Cell(stiller.rank, stiller.picture, self.total + other.total, samples, motion)


def _variance(picture: Grey) -> int:
    return (picture.size * int((picture**2).sum()) - int(picture.sum()) ** 2) // picture.size**2


def _shrink(picture: NDArray[np.integer], rows: int) -> NDArray[np.integer]:
    """Sum rows into `rows` equal bands, exactly: a row on a border goes to both sides by share. Also enlarges.

    Returns:
        (rows, W): sums over each band, times `rows` (a row of the input weighs `rows` in all).
    """
    height = len(picture)
    whole, part = np.divmod(np.arange(rows + 1) * height, rows)
    wide = np.int32 if picture.dtype == np.uint8 else np.int64  # this is what fingerprinting spends its time on
    bands = np.empty((rows, picture.shape[1]), wide)
    for band, (first, last) in zip(bands, pairwise(whole.tolist()), strict=True):
        picture[first:last].sum(axis=0, dtype=wide, out=band)
    bands *= rows
    shares = picture[np.minimum(whole, height - 1)] * part[:, None].astype(wide)
    bands += shares[1:]
    bands -= shares[:-1]
    return bands


def _centred(pictures_NHW: Grey, top: int, left: int) -> Grey:
    """(N, GRID, GRID) thumbnails without their borders, in 1/256 of a grey level about each one's mean."""
    grids = [_shrink(_inner(_shrink(_inner(picture, top), GRID).T, left), GRID).T for picture in pictures_NHW]
    area = _inner(pictures_NHW[0], top).shape[0] * _inner(pictures_NHW[0].T, left).shape[0]
    grid_NHW = np.stack(grids)
    centred_NHW: Grey = grid_NHW // area - (grid_NHW.sum(axis=(1, 2)) // (area * GRID**2))[:, None, None]
    return centred_NHW


def _blocks(grid_NHW: Grey, side: int) -> Grey:
    """(N, side, side) means."""
    size = grid_NHW.shape[1] // side
    means_NHW: Grey = grid_NHW.reshape(-1, side, size, side, size).sum(axis=(2, 4)) // size**2
    return means_NHW


def _hashes(centred_NHW: Grey) -> NDArray[np.uint64]:
    """(N,) hashes of pictures; 0 where one is flat or a mere gradient."""
    waves_UX = _waves()
    coefficients_NUV = (waves_UX @ centred_NHW @ waves_UX.T) >> 28
    places = sorted(np.ndindex(FREQUENCIES, FREQUENCIES), key=lambda place: (sum(place), place))[1:65]
    u, v = np.array(places).T
    return _signs(coefficients_NUV[:, u, v])


def _border(pictures_NHW: Grey) -> int:
    """Height of the black at the top, and as much at the bottom, that stays throughout, in 1/FINE of a row: letterboxes
    are symmetric, dark scenes seldom. A border that ends inside a row leaves it darker than the next.
    """
    lit_H = pictures_NHW.max(axis=(0, 2)) > BORDER_LEVEL * 256
    border = int(min(lit_H.argmax(), lit_H[::-1].argmax()))
    if not lit_H.any() or not 0 < border <= MAX_BORDER:
        return 0
    sums_H = pictures_NHW.sum(axis=(0, 2))
    edge, inside = (int(sums_H[border + row] + sums_H[-1 - border - row]) for row in (0, 1))
    return border * FINE + FINE - min(FINE, edge * FINE // max(1, inside) + 1)


def _inner(picture: NDArray[np.integer], border: int) -> NDArray[np.integer]:
    """Rows of a picture without a border of so many 1/FINE rows at both ends; finer rows where there is one."""
    return picture.repeat(FINE, axis=0)[border : len(picture) * FINE - border] if border else picture


def _waves() -> Grey:
    """(FREQUENCIES, GRID) rows of the orthonormal DCT-II, in 1/2**14."""
    u, x = np.ogrid[:FREQUENCIES, :GRID]
    waves_UX: Grey = np.rint(np.cos(np.pi * u * (2 * x + 1) / (2 * GRID)) * (2 / GRID) ** 0.5 * 2**14).astype(np.int64)
    return waves_UX


def _signs(coefficients_NC: Grey) -> NDArray[np.uint64]:
    contrast_N = np.sqrt((coefficients_NC**2).sum(axis=1).astype(np.float64)).astype(np.int64)
    dead_N1 = contrast_N[:, None] // DEAD_ZONE
    bits_N = np.packbits(coefficients_NC > dead_N1, axis=1, bitorder="little").copy("C").view("<u8")[:, 0]
    known_N = (contrast_N >= MIN_CONTRAST * 256 * GRID) & (
        (np.abs(coefficients_NC) > dead_N1).sum(axis=1) >= MIN_STRONG
    )
    return np.where(known_N, bits_N, 0)
