"""The order of samples as a pure function of (seed, epoch, position).

Random numbers come from Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
written out here because NumPy does not promise its streams across versions. Golden values in the tests pin both the
generator and the order; a change of either raises `manifest.ORDER_VERSION`.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]
_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


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


def epoch_order(
    shard_sizes: Sequence[int], *, seed: int, epoch: int, window_shards: int | None = None
) -> NDArray[np.int64]:
    """The sample sequence of one epoch.

    Shards are permuted and grouped into windows of `window_shards`; samples are permuted inside a window, so a reader
    holds at most one window's shards at a time. None is one window over everything: a true global shuffle.

    Args:
        shard_sizes: samples of each shard, in dataset order.
        seed: any int.
        epoch: >= 0.
        window_shards: shards per window, >= 1, or None for all.

    Returns:
        (total,) int64 indices into the samples counted through the shards in dataset order.

    Raises:
        ValueError: window_shards < 1.
    """
    if window_shards is not None and window_shards < 1:
        raise ValueError(f"window_shards must be >= 1 or None, got {window_shards}")
    sizes = np.asarray(shard_sizes, np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    if window_shards is None or window_shards >= len(sizes):
        return permutation(int(starts[-1]), "samples", seed, epoch, 0)
    shards = permutation(len(sizes), "shards", seed, epoch)
    windows = []
    for number, first in enumerate(range(0, len(shards), window_shards)):
        members = [np.arange(starts[s], starts[s + 1]) for s in shards[first : first + window_shards]]
        window = np.concatenate(members)
        windows.append(window[permutation(len(window), "samples", seed, epoch, number)])
    return np.concatenate(windows)
