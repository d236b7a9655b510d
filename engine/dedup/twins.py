"""Which inputs repeat an earlier one: equal bytes, equal compressed streams, and the same pictures, in that order."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...shards.ledger import Reason
from ..config import Dedup
from .config import DedupConfig
from .search import find_duplicates

REASONS: tuple[Reason, ...] = ("", "exact", "stream", "perceptual")
LEVEL = {"none": 0, "exact": 1, "stream": 2, "perceptual": 3}


@dataclass(slots=True)
class Twins:
    """Collects fingerprints in input order, those of earlier generations first."""

    dedup: Dedup
    near: DedupConfig = field(default_factory=DedupConfig)
    _exact: list[bytes] = field(default_factory=list)
    _stream: list[bytes] = field(default_factory=list)
    _pictures: list[bytes] = field(default_factory=list)
    _rows: list[int] = field(default_factory=list)

    def add(
        self, row: int, sha256: str | None, stream_hash: str | None, fingerprint: bytes | None, span: object = None
    ) -> None:
        """Count an input in; rows ascend. One that failed is left out: it can keep nothing for others."""
        self._rows.append(row)
        self._exact.append(_digest(sha256, span))
        self._stream.append(_digest(stream_hash, span) if LEVEL[self.dedup] >= 2 else b"")
        self._pictures.append((fingerprint or b"") if LEVEL[self.dedup] >= 3 and span is None else b"")

    def solve(self, earlier: int = 0) -> dict[int, tuple[int, Reason]]:
        """For every input that repeats another: that other one's row, and how it was told.

        Args:
            earlier: how many of the first inputs belong to earlier generations: they stay, whatever they repeat.

        Returns:
            row → (row of the input that is kept, reason). What is kept repeats nothing, and comes first of its kind.
        """
        count = len(self._rows)
        twin, reason = np.full(count, -1, dtype=np.int64), np.zeros(count, dtype=np.int8)
        for level, prints in enumerate((self._exact, self._stream), 1):
            if LEVEL[self.dedup] >= level:
                _settle(twin, reason, _first_equal(prints), level, earlier)
        if LEVEL[self.dedup] >= 3:
            open_rows = np.flatnonzero(twin < 0)
            prints = [self._pictures[i] for i in open_rows]
            found = find_duplicates(prints, self.near, earlier=int((open_rows < earlier).sum())).of
            first = np.arange(count)
            first[open_rows] = np.where(found < 0, open_rows, open_rows[found])
            _settle(twin, reason, first, 3, earlier)
        repeats = np.flatnonzero(twin >= 0)
        return {self._rows[i]: (self._rows[twin[i]], REASONS[reason[i]]) for i in repeats}


def _digest(text: str | None, span: object) -> bytes:
    return hashlib.blake2b(f"{text}\0{span}".encode(), digest_size=16).digest() if text else b""


def _first_equal(prints: list[bytes]) -> NDArray[np.int64]:
    """For each print the first place of an equal one; an empty print equals nothing."""
    first = np.arange(len(prints))
    known = np.flatnonzero(np.fromiter(map(len, prints), dtype=np.int64, count=len(prints)))
    if len(known) == 0:
        return first
    halves = np.frombuffer(b"".join(prints[i] for i in known), dtype=np.uint64).reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: equal ones stay in input order
    ordered = halves[order]
    starts = np.concatenate(([True], (ordered[1:] != ordered[:-1]).any(axis=1)))
    leaders = order[starts][np.cumsum(starts) - 1]
    first[known[order]] = known[leaders]
    return first


def _settle(
    twin: NDArray[np.int64], reason: NDArray[np.int8], first: NDArray[np.int64], level: int, earlier: int
) -> None:
    """Take in what one comparison found; an input that repeats a repeated one repeats what that one repeats."""
    for i in np.flatnonzero(first != np.arange(len(first))):
        if i >= earlier and twin[i] < 0:
            twin[i], reason[i] = first[i], level
    for i in np.flatnonzero(twin >= 0):  # ascending, so what it repeats is settled already
        through = twin[twin[i]]
        if through >= 0:
            reason[i] = max(reason[i], reason[twin[i]])
            twin[i] = through
