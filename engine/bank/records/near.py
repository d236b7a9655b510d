"""Near duplicates among the texts of one action, without comparing all pairs.

Two texts are near duplicates when the multisets of their word shingles (`shingle_words` words in a row, one by default;
lower case, punctuation left out) have a Jaccard similarity of at least `threshold`. With single words the order of the
words says nothing, so a swap is always found; at 0.8 one word of nine or more may be another.

Candidates come from MinHash and banding (Broder 1997; Indyk and Motwani, "Approximate nearest neighbors", STOC 1998):
texts that share the minima of one band of hashes share a bucket. Texts of one action have much in common anyway
(function words, the action's own), so a band has the more hashes the more texts there are: as many as it takes that a
text meets `STRANGERS` others of similarity `BACKGROUND` per band, however many there are. Bands are as many as it takes
to miss a pair right at the threshold with a chance of at most `MISSED`. Hence cost grows as n to the power of
1 + ln(1 / threshold) / ln(1 / BACKGROUND), 1.2 at 0.8, and not as n squared. That no crowd of templates changes this, a
text is compared only with the `FIRST` texts of its bucket and with the `BEFORE` ones just before it.

Every candidate is verified by its exact similarity, so what is found is a near duplicate by the definition above. Texts
are gone through in the order given; one that is near a kept text goes, any other stays: what is dropped is always near
something that is kept. The result depends on the texts and their order alone.

Why not a library: of those that are kept, datasketch makes 17,000 sketches of 128 hashes a second on one core, rensa
500,000, this 100,000; but sketches are a fifth of the work here, neither bounds a crowded bucket or verifies, and their
hashes are theirs to change, while the bank must come out the same.

Legend: N texts, S shingles of all of them, V different shingles, P pairs.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

STRANGERS = 8.0
BACKGROUND = 0.3
MISSED = 0.02
FIRST = 3
BEFORE = 3
ALL_PAIRS = 48  # so few texts are all compared: that is faster
PAIRS_AT_ONCE = 1 << 22  # candidates that wait to be verified
SHINGLES_AT_ONCE = 1 << 23  # of the pairs that are compared together
TEXTS_AT_ONCE = 1 << 14
_SPACELESS = "぀-ヿ㐀-䶿一-鿿豈-﫿ก-๛"  # scripts that write no space between words: every sign is a word
_WORDS = re.compile(f"[{_SPACELESS}]|[^\\W_{_SPACELESS}]+")

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
U32 = NDArray[np.uint32]


def find_near(texts: Sequence[str], *, threshold: float, shingle_words: int = 1, kept: int = 0) -> Ints:
    """Near duplicates of one action.

    Args:
        texts: in order of preference: of two near ones the first stays.
        threshold: least similarity of near duplicates, in (0, 1].
        shingle_words: words in a row that are compared as one, >= 1.
        kept: this many texts from the first on stay, whatever they are near to.

    Returns:
        (N,) int64: index of the kept text that each one is near to; -1 where it stays.
    """
    of_N = np.full(len(texts), -1, np.int64)
    if len(texts) < 2:
        return of_N
    shingles_S, starts_N1 = _shingles(texts, shingle_words)
    found = np.empty(0, np.uint64)
    for pairs in _candidates(shingles_S, starts_N1, threshold, kept):
        found = np.unique(np.concatenate([found, _verified(pairs, shingles_S, starts_N1, threshold)]))
    # sorted by the later text, so that what a text may be near to is decided before the text itself
    near = np.sort(found << np.uint64(32) | found >> np.uint64(32))
    laters, firsts = (near >> np.uint64(32)).tolist(), (near & _LOW).tolist()
    stays = [True] * len(texts)
    for later, earlier in zip(laters, firsts, strict=True):
        if stays[earlier] and stays[later]:
            stays[later] = False
            of_N[later] = earlier
    return of_N


_LOW = np.uint64(0xFFFFFFFF)


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared: lower case, without punctuation."""
    return _WORDS.findall(text.casefold())


def _shingles(texts: Sequence[str], shingle_words: int) -> tuple[U32, Ints]:
    """(S,) numbers of the shingles of each text, ascending, and (N + 1,) where a text's begin.

    A shingle that stands twice in a text has another number the second time, so that sets do for multisets.
    """
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    flat: list[U32] = []
    sizes_N = np.empty(len(texts), np.int64)
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        found: list[str] = []
        for place, text in enumerate(texts[first : first + TEXTS_AT_ONCE], first):
            words = words_of(text)
            if shingle_words > 1 and words:
                last = max(1, len(words) - shingle_words + 1)
                words = [" ".join(words[i : i + shingle_words]) for i in range(last)]
            sizes_N[place] = len(words)
            found += words
        flat.append(np.fromiter(map(numbers.__getitem__, found), np.uint32, len(found)))
    starts_N1 = np.concatenate([[0], np.cumsum(sizes_N)])
    owners_S = np.repeat(np.arange(len(texts), dtype=np.uint64), sizes_N)
    sorted_S = np.sort(owners_S << np.uint64(32) | np.concatenate(flat))
    again_S = np.concatenate([[False], sorted_S[1:] == sorted_S[:-1]]) if len(sorted_S) else np.empty(0, np.bool_)
    if not again_S.any():
        return (sorted_S & _LOW).astype(np.uint32), starts_N1
    place_S = np.arange(len(sorted_S))
    nth_S = place_S - np.maximum.accumulate(np.where(again_S, 0, place_S))
    repeats, renumbered = np.unique(
        (nth_S[again_S].astype(np.uint64) << np.uint64(32)) | (sorted_S[again_S] & _LOW), return_inverse=True
    )
    assert len(numbers) + len(repeats) < 1 << 32
    sorted_S[again_S] = (sorted_S[again_S] & ~_LOW) | (renumbered + len(numbers)).astype(np.uint64)
    return (np.sort(sorted_S) & _LOW).astype(np.uint32), starts_N1


def bands_of(texts: int, threshold: float) -> tuple[int, int]:
    """(bands, hashes of each) for this many texts."""
    hashes = math.ceil(math.log(max(texts / STRANGERS, 1)) / math.log(1 / BACKGROUND))
    hashes = max(2, hashes)
    chance = threshold**hashes
    return (1 if chance >= 1 else math.ceil(math.log(MISSED) / math.log1p(-chance))), hashes


def _candidates(shingles_S: U32, starts_N1: Ints, threshold: float, kept: int) -> Iterator[Words]:
    """Pairs of texts that may be near, the earlier in the high half; the later is not one of the `kept`.

    They come in sorted arrays, each pair at least once.
    """
    sizes_N = np.diff(starts_N1)
    filled = np.flatnonzero(sizes_N)  # texts without a word are near nothing
    if len(filled) <= ALL_PAIRS:
        first, later = (filled[places] for places in np.triu_indices(len(filled), 1))
        yield _packed(first, later, sizes_N, threshold, kept)
        return
    begins = starts_N1[:-1][filled]
    different = int(shingles_S.max()) + 1
    bands, hashes = bands_of(len(filled), threshold)
    bits = np.uint64(len(filled).bit_length())
    waiting: list[Words] = []
    for band in range(bands):
        keys_N = np.zeros(len(filled), np.uint64)
        for number in range(band * hashes, (band + 1) * hashes):
            minima_N = np.minimum.reduceat(_hashes(different, number)[shingles_S], begins)
            keys_N = _mix((keys_N ^ minima_N) * _ODD)
        packed = np.sort((keys_N >> bits) << bits | np.arange(len(filled), dtype=np.uint64))
        for first, later in _bucket_pairs(packed, bits):
            waiting.append(_packed(filled[first], filled[later], sizes_N, threshold, kept))
        if sum(map(len, waiting)) > PAIRS_AT_ONCE or band == bands - 1:
            yield np.unique(np.concatenate(waiting))
            waiting.clear()


def _packed(first: Ints, later: Ints, sizes_N: Ints, threshold: float, kept: int) -> Words:
    """Pairs that can be near by their sizes, of which the later may go."""
    small, large = np.minimum(sizes_N[first], sizes_N[later]), np.maximum(sizes_N[first], sizes_N[later])
    wanted = (small >= threshold * large - 1e-9) & (later >= kept)
    return first[wanted].astype(np.uint64) << np.uint64(32) | later[wanted].astype(np.uint64)


def _bucket_pairs(packed: Words, bits: np.uint64) -> Iterator[tuple[Ints, Ints]]:
    """Pairs (earlier, later) of a band: each text with the first ones of its bucket, and with those just before it."""
    keys, texts = packed >> bits, (packed & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    begins = np.repeat(starts, np.diff(np.append(starts, len(keys))))
    rank = np.arange(len(keys)) - begins
    for nth in range(FIRST):
        places = np.flatnonzero(rank > nth)
        yield texts[begins[places] + nth], texts[places]
    for back in range(1, BEFORE + 1):
        places = np.flatnonzero(rank >= FIRST + back)
        yield texts[places - back], texts[places]


_ODD = np.uint64(0x9E3779B97F4A7C15)


def _mix(words: Words) -> Words:
    """The finaliser of SplitMix64: every bit of the result depends on every bit of the word."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _hashes(different: int, number: int) -> U32:
    """(V,) values of the `number`-th hash of every shingle."""
    offset = np.uint64((number + 1) * 0xD1342543DE82EF95 & 0xFFFFFFFFFFFFFFFF)
    return (_mix((np.arange(different, dtype=np.uint64) + np.uint64(1)) * _ODD ^ offset) >> np.uint64(32)).astype(
        np.uint32
    )


def _verified(pairs: Words, shingles_S: U32, starts_N1: Ints, threshold: float) -> Words:
    """The pairs whose texts are similar enough."""
    first_P, later_P = (pairs >> np.uint64(32)).astype(np.int64), (pairs & _LOW).astype(np.int64)
    sizes_N = np.diff(starts_N1)
    sizes_P = sizes_N[first_P] + sizes_N[later_P]
    near_P = np.zeros(len(pairs), np.bool_)
    # as many pairs at a time as have so many shingles together, or one pair
    parts = np.cumsum(sizes_P) // SHINGLES_AT_ONCE
    for places in np.split(np.arange(len(pairs)), np.flatnonzero(np.diff(parts)) + 1):
        shared = _shared(shingles_S, starts_N1, first_P[places], later_P[places])
        near_P[places] = shared >= threshold * (sizes_P[places] - shared) - 1e-9
    return pairs[near_P]


def _shared(shingles_S: U32, starts_N1: Ints, first: Ints, later: Ints) -> Ints:
    """(P,) how many shingles the two texts of each pair have in common."""
    members = []
    for texts in (first, later):
        sizes = starts_N1[texts + 1] - starts_N1[texts]
        pair = np.repeat(np.arange(len(texts), dtype=np.uint64), sizes)
        within = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        flat = shingles_S[np.repeat(starts_N1[texts], sizes) + within]
        members.append(pair << np.uint64(32) | flat)
    both = np.sort(np.concatenate(members))
    twice = both[:-1][both[1:] == both[:-1]] >> np.uint64(32)
    return np.bincount(twice.astype(np.int64), minlength=len(first))
