"""The order of samples as a pure function of (seed, epoch, position).

Random numbers come from Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
written out here because NumPy does not promise its streams across versions. Golden values in the tests pin both the
generator and the order; a change of either raises `manifest.ORDER_VERSION`.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]
_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
SHUFFLED = 1024
"""Up to so many places `permuted` sorts random words."""
MIX_SLOTS = 1000
"""Slots of the block by which datasets are mixed."""
FEISTEL_ROUNDS = 8  # even; four make it hard to tell from chance, and these cost microseconds


def philox(counter: U32, key: tuple[int, int]) -> U32:
    """Philox 4x32-10 of counters (..., 4) uint32 under a key of two uint32; returns (..., 4) uint32."""
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint32) for i in range(4))
    k0, k1 = np.uint32(key[0]), np.uint32(key[1])
    with np.errstate(over="ignore"):
        for _ in range(_ROUNDS):
            first = c0.astype(np.uint64) * _MULTIPLIERS[0]
            second = c2.astype(np.uint64) * _MULTIPLIERS[1]
            c0, c1, c2, c3 = (
                (second >> _SHIFT).astype(np.uint32) ^ c1 ^ k0,
                (second & _LOW).astype(np.uint32),
                (first >> _SHIFT).astype(np.uint32) ^ c3 ^ k1,
                (first & _LOW).astype(np.uint32),
            )
            k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return np.stack([c0, c1, c2, c3], axis=-1)


def stream_key(*parts: object) -> tuple[int, int]:
    """A Philox key that names one use of randomness, from any parts with a stable repr: ("crop", seed, epoch, key)."""
    digest = hashlib.blake2b("\0".join(map(repr, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")


def random_words(count: int, *parts: object) -> NDArray[np.uint64]:
    """`count` random 64-bit words of the stream named by `parts`; word i does not depend on `count`."""
    counter = np.zeros((count, 4), np.uint32)
    indices = np.arange(count, dtype=np.uint64)
    counter[:, 0], counter[:, 1] = indices & _LOW, indices >> _SHIFT
    words = philox(counter, stream_key(*parts))
    return (words[:, 0].astype(np.uint64) << _SHIFT) | words[:, 1].astype(np.uint64)


def uniforms(count: int, *parts: object) -> NDArray[np.float64]:
    """`count` numbers in [0, 1) with 53 random bits each, of the stream named by `parts`."""
    return (random_words(count, *parts) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(count: int, *parts: object) -> NDArray[np.int64]:
    """A permutation of range(count), of the stream named by `parts`: sorted by one random word each, ties by index."""
    return np.argsort(random_words(count, *parts), kind="stable")


def permuted(places: NDArray[np.int64], count: int, *parts: object) -> NDArray[np.int64]:
    """A permutation of range(count) at some places: O(places), however large `count`.

    Up to `SHUFFLED` it is `permutation`. Beyond, it is an alternating Feistel network over the bits of `count` (Luby
    and Rackoff, "How to construct pseudorandom permutations from pseudorandom functions", 1988), its rounds keyed by
    Philox; what falls outside of the range goes through again until it is inside (Black and Rogaway, "Ciphers with
    arbitrary finite domains", 2002), which takes less than two turns on average.

    Args:
        places: int64, each in [0, count).
        count: < 2**62.
        parts: name the stream.

    Returns:
        int64, in the shape of `places`, each in [0, count).
    """
    if count <= SHUFFLED:
        return permutation(count, *parts)[places]
    bits = (count - 1).bit_length()
    keys = random_words(FEISTEL_ROUNDS, *parts, "feistel", count)
    values = np.asarray(places, np.int64).astype(np.uint64).ravel()
    outside = np.arange(len(values))
    while len(outside):
        values[outside] = _feistel(values[outside], bits, keys)
        outside = outside[values[outside] >= count]
    return values.astype(np.int64).reshape(np.shape(places))


def _feistel(values: NDArray[np.uint64], bits: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A permutation of [0, 2**bits): in turn, each half is changed by what the other one hashes to."""
    low_bits = bits // 2
    low_mask, high_mask = np.uint64((1 << low_bits) - 1), np.uint64((1 << (bits - low_bits)) - 1)
    low, high = values & low_mask, values >> np.uint64(low_bits)
    for first, second in keys.reshape(-1, 2):
        high = high ^ (_mixed(low ^ first) & high_mask)
        low = low ^ (_mixed(high ^ second) & low_mask)
    return (high << np.uint64(low_bits)) | low


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


class EpochOrder:
    """The sample sequence of one epoch of one dataset.

    Shards are permuted and grouped into windows of `window_shards`; samples are permuted inside a window, so a reader
    holds at most one window's shards at a time. None is one window over everything: a true global shuffle.

    Args:
        shard_sizes: samples of each shard, in dataset order.
        seed: any int.
        epoch: >= 0.
        window_shards: shards per window, >= 1, or None for all.
        source: of several datasets that are mixed, the place of this one.

    Raises:
        ValueError: window_shards < 1.
    """

    def __init__(
        self, shard_sizes: Sequence[int], *, seed: int, epoch: int, window_shards: int | None = None, source: int = 0
    ) -> None:
        if window_shards is not None and window_shards < 1:
            raise ValueError(f"window_shards must be >= 1 or None, got {window_shards}")
        sizes = np.asarray(shard_sizes, np.int64)
        self._name = seed, epoch, source
        if window_shards is None or window_shards >= len(sizes):
            self._shards = np.arange(len(sizes))
            bounds = np.array([0, len(sizes)])
        else:
            self._shards = permutation(len(sizes), "shards", *self._name)
            bounds = np.minimum(np.arange(-(-len(sizes) // window_shards) + 1) * window_shards, len(sizes))
        self._first_of_shard = np.concatenate([[0], np.cumsum(sizes)])  # in dataset order
        self._ends = np.concatenate([[0], np.cumsum(sizes[self._shards])])  # in the order of the epoch
        self._starts = self._ends[bounds]  # of the windows

    def __len__(self) -> int:
        return int(self._ends[-1])

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples at some positions, whatever the others: indices counted through the shards in dataset order.

        Args:
            positions: (B,) int64 in [0, len).
        """
        windows = np.searchsorted(self._starts, positions, side="right") - 1
        samples = np.empty_like(positions)
        for window in np.unique(windows).tolist():
            here, first = windows == window, int(self._starts[window])
            size = int(self._starts[window + 1]) - first
            places = first + permuted(positions[here] - first, size, "samples", *self._name, window)
            shards = np.searchsorted(self._ends, places, side="right") - 1
            samples[here] = self._first_of_shard[self._shards[shards]] + places - self._ends[shards]
        return samples


class Mixture:
    """The sample sequence over weighted datasets: a repeating block of slots says whose turn it is.

    Every source goes through its own epochs, whichever epoch of the mixture it is: each of its samples comes once
    before any comes again. An epoch of the mixture has as many samples as all sources together.

    Args:
        sources: shard sizes of each dataset.
        weights: of each, > 0; shares to within `1 / MIX_SLOTS`.
        seed: any int.
        window_shards: as `EpochOrder` takes it.

    Raises:
        ValueError: weights that are not as many as the sources, not positive and finite, or too small for a slot.
    """

    def __init__(
        self, sources: Sequence[Sequence[int]], weights: Sequence[float], *, seed: int, window_shards: int | None = None
    ) -> None:
        if len(weights) != len(sources) or not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"weights must be {len(sources)} numbers > 0, one for each source, got {list(weights)}")
        self._sources, self._seed, self._window_shards = [list(sizes) for sizes in sources], seed, window_shards
        self._sizes = np.array([sum(sizes) for sizes in sources], np.int64)
        if not self._sizes.all():
            raise ValueError(f"every source must hold a sample, got {self._sizes.tolist()}")
        self._counts = _shares(weights)
        slots = np.repeat(np.arange(len(sources)), self._counts)
        self._slots = slots[permutation(len(slots), "mixture", seed)]
        self._turns = np.empty(len(slots), np.int64)  # of a slot among those of its source
        for source, count in enumerate(self._counts.tolist()):
            self._turns[self._slots == source] = np.arange(count)
        self._orders: dict[int, tuple[int, EpochOrder]] = {}  # of each source, the epoch it is in

    def __len__(self) -> int:
        return int(self._sizes.sum())

    def at(self, epoch: int, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The samples at some positions of an epoch.

        Args:
            epoch: >= 0.
            positions: (B,) int64 in [0, len).

        Returns:
            (B,) int64 sources, and (B,) int64 samples counted through each source's shards in dataset order.
        """
        blocks, slots = np.divmod(epoch * len(self) + positions, len(self._slots))
        sources = self._slots[slots]
        turns = blocks * self._counts[sources] + self._turns[slots]
        epochs, places = np.divmod(turns, self._sizes[sources])
        samples = np.empty_like(places)
        for source, its_epoch in sorted(set(zip(sources.tolist(), epochs.tolist(), strict=True))):
            here = (sources == source) & (epochs == its_epoch)
            samples[here] = self._order(source, its_epoch).at(places[here])
        return sources, samples

    def _order(self, source: int, epoch: int) -> EpochOrder:
        known = self._orders.get(source)  # taken once: several threads ask, of an epoch each
        if known is None or known[0] != epoch:
            sizes, window = self._sources[source], self._window_shards
            order = EpochOrder(sizes, seed=self._seed, epoch=epoch, window_shards=window, source=source)
            known = self._orders[source] = epoch, order
        return known[1]


def _shares(weights: Sequence[float]) -> NDArray[np.int64]:
    """Slots of each source, by largest remainders."""
    if len(weights) == 1:
        return np.ones(1, np.int64)
    exact = np.array(weights) * (MIX_SLOTS / math.fsum(weights))
    counts = exact.astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: MIX_SLOTS - int(counts.sum())]] += 1
    if not counts.all():
        raise ValueError(f"a weight must be at least 1/{MIX_SLOTS} of all, got {weights[int(counts.argmin())]}")
    return counts
