"""Fetches the shards of remote datasets before they are read, and lets go of those that were."""

import threading
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .catalog import Catalog

PIECE = 256  # positions looked at together
Places = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Positions of an epoch → source and number of each sample."""


class Ahead:
    """One epoch's fetching: a thread that stays up to two windows before the reader.

    An error of the fetching is not raised here: whoever reads the shard meets it.

    Args:
        catalog: of the samples.
        places: the epoch's order.
        positions: of all ranks, that will be read.
        samples_ahead: how far to look before the reader.
    """

    def __init__(self, catalog: Catalog, places: Places, positions: range, samples_ahead: int) -> None:
        self._catalog, self._places, self._positions, self._samples = catalog, places, positions, samples_ahead
        self._last_use: dict[tuple[int, int], int] = {}
        self._read = positions.start
        self._changed, self._stopped = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def passed(self, position: int) -> None:
        """Every sample before `position` is read: let go of shards that none behind it needs, as far as is known."""
        with self._changed:
            self._read = position
            self._changed.notify()
            over = [place for place, last in self._last_use.items() if last < position]
            for place in over:
                del self._last_use[place]
        gone = defaultdict[int, set[int]](set)
        for source, shard in over:
            gone[source].add(shard)
        for source, shards in gone.items():
            self._catalog.datasets[source].let_go(shards)

    def stop(self) -> None:
        """End the thread; a fetch that has begun ends first."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        for first in range(self._positions.start, self._positions.stop, PIECE):
            positions = np.arange(first, min(first + PIECE, self._positions.stop))
            needed = self._catalog.shards_of(*self._places(positions))
            with self._changed:
                self._last_use.update(zip(needed, positions.tolist(), strict=True))
            for source, shard in dict.fromkeys(needed):
                if self._stopped:
                    return
                self._catalog.open_shard(source, shard)
            with self._changed:
                while first + PIECE > self._read + self._samples and not self._stopped:
                    self._changed.wait()
