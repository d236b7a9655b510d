"""A perceptual fingerprint of a video: 64-bit hashes of its pictures on a grid of presentation time.

Each hash is the signs of a picture's 64 lowest DCT coefficients but the mean (after Zauner, "Implementation and
benchmarking of perceptual image hash functions", 2010): scaling, recompression and changes of brightness or contrast
leave most signs, mirroring flips those of the odd columns. Everything is integer arithmetic, so the bits depend on the
decoded pixels alone.

Time is cut into cells of an eighth of a second, so a copy that starts anywhere else is off by a sixteenth at most. When
a video fills more than `MAX_CELLS` of them (8 s), pairs of cells become one, again and again, and the stiller picture
of the two stays. That choice hangs on the pictures, not on where the video starts, so a long video and a copy cut out
of it keep mostly the same ones (`dedup` says what is found).

Legend: N cells, H height, W width, U vertical and V horizontal frequencies.
"""

import math
from itertools import pairwise
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from .config import Validate
from .probe import probe

CELLS_PER_SECOND = 8
MAX_CELLS = 64
VERSION = 1
"""In the top byte of a fingerprint's first word; the lowest byte says that a cell is 2**level eighths of a second."""

SIDE = 64  # cells across and down of the thumbnail that is kept of a picture
BORDER_LEVEL = 32  # grey level up to which an edge counts as a black border: 16 is black in most videos
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
        self._cells: dict[int, tuple[tuple[bool, int, int], Grey]] = {}
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
            Little-endian 64-bit words: a header, then one hash per cell, 0 where the picture tells nothing. Empty when
            no picture tells anything.
        """
        if self._held is not None:
            lasting = self._shown_for or 1 / CELLS_PER_SECOND
            self._keep(self._held, self._shown_from, self._shown_from + lasting)
            self._held = None
        if not self._cells:
            return b""
        hashes = _hashes(np.stack([self._cells[cell][1] for cell in sorted(self._cells)]))
        if not hashes.any():
            return b""
        header = np.array([VERSION << 56 | self._level], np.uint64)
        return np.concatenate([header, hashes]).astype("<u8").tobytes()

    def _keep(self, frame: VideoFrame, start: float, end: float) -> None:
        """Put a frame into the cells at whose middle it is shown."""
        first, last = (math.ceil(moment * CELLS_PER_SECOND - 0.5) for moment in (start, end))
        if first == last:
            return
        picture = self._thumbnail(frame)
        change = 0 if self._before is None else int(np.abs(picture - self._before).sum())
        self._before = picture
        while (last - 1) >> self._level >= MAX_CELLS:
            self._halve()
        flat = _variance(picture) < (MIN_CONTRAST * 256) ** 2
        for cell in range(first >> self._level, ((last - 1) >> self._level) + 1):
            self._offer(cell, (flat, change, first), picture)

    def _thumbnail(self, frame: VideoFrame) -> Grey:
        """(SIDE, SIDE) grey levels in 1/256, upright."""
        grey_HW = self._to_grey.reformat(frame, format="gray", threads=1).to_ndarray().astype(np.uint8, copy=False)
        height, width = grey_HW.shape
        small = _shrink(_shrink(grey_HW, SIDE).T, SIDE).T * 256 // (height * width)
        return np.rot90(small, int(frame.rotation) // 90)

    def _halve(self) -> None:
        self._level += 1
        cells, self._cells = self._cells, {}
        for cell, (rank, picture) in cells.items():
            self._offer(cell // 2, rank, picture)

    def _offer(self, cell: int, rank: tuple[bool, int, int], picture: Grey) -> None:
        if cell not in self._cells or rank < self._cells[cell][0]:
            self._cells[cell] = rank, picture


def probe_with_fingerprint(path: str, validate: Validate) -> dict[str, Any]:
    """What `probe` finds, and the fingerprint in hex; the video is decoded once. For the sandbox's child process.

    Raises:
        MediaError: what `probe` raises.
    """
    found = Fingerprinter()

    def take(frame: VideoFrame) -> None:
        if frame.time is not None:
            found.add(frame, frame.time)

    facts = probe(path, validate, take)
    return facts | {"fingerprint": found.digest().hex()}


def fingerprint(path: str) -> bytes:
    """The fingerprint of a video file; see `Fingerprinter.digest`.

    Raises:
        MediaError: the file does not open or does not decode to its end.
    """
    return bytes.fromhex(probe_with_fingerprint(path, "decode")["fingerprint"])


def _variance(picture: Grey) -> int:
    return (picture.size * int((picture**2).sum()) - int(picture.sum()) ** 2) // picture.size**2


def _shrink(picture: NDArray[np.integer], rows: int) -> Grey:
    """Sum rows into `rows` equal bands, exactly: a row on a border goes to both sides by share. Also enlarges.

    Returns:
        (rows, W): sums over each band, times `rows` (a row of the input weighs `rows` in all).
    """
    height = len(picture)
    whole, part = np.divmod(np.arange(rows + 1) * height, rows)
    bands = [picture[a:b].sum(axis=0, dtype=np.int64) for a, b in pairwise(whole.tolist())]
    shares = picture[np.minimum(whole, height - 1)] * part[:, None]
    return np.stack(bands) * rows + np.diff(shares, axis=0)


def _hashes(pictures_NHW: Grey) -> NDArray[np.uint64]:
    """(N,) hashes of thumbnails; 0 where a picture is flat or a mere gradient."""
    top, left = _border(pictures_NHW), _border(pictures_NHW.transpose(0, 2, 1))
    inner_NHW = pictures_NHW[:, top : SIDE - top, left : SIDE - left]
    grid_NHW = np.stack([_shrink(_shrink(picture_HW, GRID).T, GRID).T for picture_HW in inner_NHW])
    area = inner_NHW[0].size
    centred_NHW = grid_NHW // area - (grid_NHW.sum(axis=(1, 2)) // (area * GRID**2))[:, None, None]
    waves_UX = _waves()
    coefficients_NUV = (waves_UX @ centred_NHW @ waves_UX.T) >> 28
    places = sorted(np.ndindex(FREQUENCIES, FREQUENCIES), key=lambda place: (sum(place), place))[1:65]
    u, v = np.array(places).T
    return _signs(coefficients_NUV[:, u, v])


def _border(pictures_NHW: Grey) -> int:
    """Rows at the top, and as many at the bottom, that stay black throughout: letterboxes are symmetric, dark scenes
    seldom.
    """
    lit_H = pictures_NHW.max(axis=(0, 2)) > BORDER_LEVEL * 256
    if not lit_H.any():
        return 0
    border = int(min(lit_H.argmax(), lit_H[::-1].argmax()))
    return border if border <= MAX_BORDER else 0


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
