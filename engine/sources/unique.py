"""Ids that come twice among millions, without holding them."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from ...shards.errors import UsageError

CANDIDATES = 4096


def check_unique(ids: Callable[[], Iterable[str]], name: str) -> int:
    """Check that every id is given once; 8 bytes of memory for each.

    Args:
        ids: gives the ids, the same ones in the same order at every call; called once, and again only where digests
            meet.
        name: of the input, for the message.

    Returns:
        How many ids there are.

    Raises:
        UsageError: names an id that comes twice, and its first two rows.
    """
    digests = np.fromiter((_digest(each) for each in ids()), np.uint64)
    total = len(digests)
    digests.sort()
    met = np.unique(digests[1:][digests[1:] == digests[:-1]])
    del digests
    for start in range(0, len(met), CANDIDATES):
        _confirm(ids(), met[start : start + CANDIDATES], name)
    return total


def _confirm(ids: Iterable[str], met: NDArray[np.uint64], name: str) -> None:
    candidates = set(met.tolist())
    first: dict[str, int] = {}
    for number, each in enumerate(ids, 1):
        if _digest(each) in candidates and (earlier := first.setdefault(each, number)) != number:
            raise UsageError(f"{name}: every id must be given once, got {each!r} twice (rows {earlier} and {number})")


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
