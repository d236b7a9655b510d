"""How much a description has to do with its action: the cosine of two mean word vectors (ActionHub, 4.2), or of what a
text tower makes of the two texts.

A word is a run of letters, marks and digits, with apostrophes inside, in lower case; a possessive 's goes. A word that
has no vector counts for nothing. A description without any known word has no relevance, and neither has any description
of an action whose name has none. The name is the canonical one: "ApplyEyeMakeup" is no word, "apply eye makeup" are
three.

Legend: N texts, T words of them, V known words, D dimensions, A actions.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]
_BETWEEN = r"[^\pL\pM\pN'’]+"
_TEXTS_AT_ONCE = 1024  # their sums fit into a core's cache


class Words(NamedTuple):
    """The words of N texts."""

    of_T: pa.DictionaryArray
    """Every word in order, as a number into the different words; the empty one stands for none."""
    ends_N: Ints
    """Where each text's words end."""


def split_words(texts: pa.StringArray) -> Words:
    """The words of texts."""
    pieces = pc.split_pattern_regex(pc.utf8_lower(texts), _BETWEEN)
    ends = np.cumsum(pc.list_value_length(pieces).to_numpy(zero_copy_only=False).astype(np.int64))
    words = pieces.flatten().dictionary_encode()
    different = pc.utf8_trim(pc.replace_substring(words.dictionary, "’", "'"), "'")
    different = pc.replace_substring_regex(different, "'s$", "")
    return Words(pa.DictionaryArray.from_arrays(words.indices, different), ends)


def count_words(words: Words) -> tuple[pa.StringArray, Ints]:
    """The different words, and how often each is there; a word may come more than once."""
    counts = np.bincount(words.of_T.indices.to_numpy(), minlength=len(words.of_T.dictionary))
    return words.of_T.dictionary, counts.astype(np.int64)


class MeanVectors:
    """Mean word vectors of texts, up to a factor, which a cosine does not see: their sums."""

    def __init__(self, words: pa.StringArray, rows: Ints, vectors: Vectors) -> None:
        """Take V different words, the row of each, and the (rows, D) vectors, which may be memory-mapped."""
        self._words, self._rows, self._vectors = words, rows, vectors

    def __call__(self, texts: pa.StringArray) -> Vectors:
        """(N, D) sums of the vectors of known words, in their order; zero where no word is known."""
        words = split_words(texts)
        places = pc.fill_null(pc.index_in(words.of_T.dictionary, value_set=self._words), -1).to_numpy()
        known_T = places[words.of_T.indices.to_numpy()]
        is_known_T = known_T >= 0
        known_before = np.concatenate([[0], np.cumsum(is_known_T)])
        ends_N = known_before[words.ends_N]
        sizes_N = np.diff(ends_N, prepend=0)
        rows_T = self._rows[known_T[is_known_T]]
        sums_ND = np.empty((len(texts), self._vectors.shape[1]), np.float32)
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            piece = slice(first, first + _TEXTS_AT_ONCE)
            sums_ND[piece] = self._sums(rows_T, ends_N[piece] - sizes_N[piece], sizes_N[piece])
        return sums_ND

    def _sums(self, rows_T: Ints, starts_N: Ints, sizes_N: Ints) -> Vectors:
        """All first words are added, then all second ones …: the long texts come first, so each step is one slice."""
        order_N = np.argsort(-sizes_N, kind="stable")
        starts_N, sizes_N = starts_N[order_N], sizes_N[order_N]
        sums_ND = np.zeros((len(order_N), self._vectors.shape[1]), np.float32)
        for place in range(int(sizes_N[0])):
            longer = int(np.searchsorted(-sizes_N, -place))
            sums_ND[:longer] += self._vectors[rows_T[starts_N[:longer] + place]]
        back_ND = np.empty_like(sums_ND)
        back_ND[order_N] = sums_ND
        return back_ND


def units(vectors_ND: Vectors | Floats) -> Floats:
    """(N, D) vectors of length 1; NaN where a vector has no length."""
    wide_ND = vectors_ND.astype(np.float64)
    length_N = np.sqrt(np.einsum("nd,nd->n", wide_ND, wide_ND))
    with np.errstate(invalid="ignore"):
        return np.asarray(wide_ND / np.where(length_N > 0, length_N, np.nan)[:, None])


def cosines(vectors_ND: Vectors | Floats, actions_N: Ints, names_AD: Floats) -> Vectors:
    """(N,) fp32 cosines of N texts with the names of their actions, in [-1, 1]; NaN where either has no length.

    Args:
        vectors_ND: of the texts, of any length.
        actions_N: the place of each text's action.
        names_AD: `units` of the actions' names.
    """
    similar_N = np.empty(len(actions_N), np.float32)
    for first in range(0, len(actions_N), _TEXTS_AT_ONCE):
        piece = slice(first, first + _TEXTS_AT_ONCE)
        products_N = np.einsum("nd,nd->n", units(vectors_ND[piece]), names_AD[actions_N[piece]])
        similar_N[piece] = np.clip(products_N, -1, 1)
    return similar_N


def best(scores_N: Vectors, k: int) -> Ints:
    """The places of the `k` highest scores, ascending; a tie goes to the first, and no score (NaN) comes last."""
    keys_N = np.where(np.isnan(scores_N), np.inf, -scores_N)
    return np.sort(np.argsort(keys_N, kind="stable")[:k])
