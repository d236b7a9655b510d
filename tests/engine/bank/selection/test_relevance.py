"""Relevance is the cosine of mean word vectors: as worked out by hand, whatever the batches, null where unknown."""

import numpy as np
import pyarrow as pa
import pytest
from reelmill.engine.bank.selection import relevance
from reelmill.engine.bank.selection.relevance import MeanVectors, best, cosines, count_words, split_words, units


def words_of(text: str) -> list[str]:
    return [word for word in split_words(pa.array([text])).of_T.to_pylist() if word]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The dog's ball, thrown HIGH!", ["the", "dog", "ball", "thrown", "high"]),
        ("don’t 'quote' it's", ["don't", "quote", "it"]),
        ("café-crème 3.5 m/s", ["café", "crème", "3", "5", "m", "s"]),
        ("跳 over नमस्ते", ["跳", "over", "नमस्ते"]),
        ("  ...  ", []),
        ("", []),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


def test_words_end_where_their_text_does():
    words = split_words(pa.array(["a b", "", "c, d e"]))
    counts = np.diff(words.ends_N, prepend=0)
    assert [list(words.of_T.to_pylist())[e - c : e] for e, c in zip(words.ends_N, counts, strict=True)] == [
        ["a", "b"],
        [""],
        ["c", "d", "e"],
    ]
    # two spellings of one word are counted under it twice; who adds them up has one word
    found, times = count_words(split_words(pa.array(["dog dog's cat"])))
    assert sorted(zip(found.to_pylist(), times.tolist(), strict=True)) == [("cat", 1), ("dog", 1), ("dog", 1)]


VECTORS = {"dog": [1.0, 0.0], "ball": [0.0, 1.0], "run": [3.0, 4.0]}


@pytest.fixture
def mean() -> MeanVectors:
    rows = np.array([2, 0, 1])  # they need not lie in the order of the words
    matrix = np.zeros((3, 2), np.float32)
    matrix[rows] = list(VECTORS.values())
    return MeanVectors(pa.array(list(VECTORS)), rows, matrix)


def test_sums_and_cosines_by_hand(mean):
    texts = pa.array(["dog ball", "Dog, dog: unheard ball", "nothing known", "", "run run run"])
    sums = mean(texts)
    assert sums.tolist() == [[1, 1], [2, 1], [0, 0], [0, 0], [9, 12]]
    names = units(mean(pa.array(["dog", "strange"])))
    assert names[0].tolist() == [1, 0]
    assert np.isnan(names[1]).all()
    got = cosines(sums, np.zeros(5, np.int64), names)
    np.testing.assert_allclose(got, [2**-0.5, 2 / 5**0.5, np.nan, np.nan, 0.6], rtol=1e-6)
    assert got.dtype == np.float32
    assert np.isnan(cosines(sums, np.ones(5, np.int64), names)).all()


@pytest.mark.parametrize("at_once", [1, 3, 1024])
def test_the_size_of_a_batch_changes_no_bit(monkeypatch, at_once):
    draw = np.random.default_rng(0)
    words = [f"w{number}" for number in range(300)]
    mean = MeanVectors(pa.array(words), np.arange(300), draw.standard_normal((300, 50)).astype(np.float32))
    texts = pa.array([" ".join(draw.choice(words, size)) for size in draw.integers(0, 40, 200)])
    names = units(mean(texts))
    whole = cosines(mean(texts), np.arange(200)[::-1], names)
    monkeypatch.setattr(relevance, "_TEXTS_AT_ONCE", at_once)
    again = np.concatenate(
        [cosines(mean(texts.slice(n, 50)), np.arange(200)[::-1][n : n + 50], names) for n in range(0, 200, 50)]
    )
    assert whole.tobytes() == again.tobytes()


def test_mean_vectors_agree_with_the_plain_sum():
    draw = np.random.default_rng(1)
    words = [f"w{number}" for number in range(40)]
    matrix = draw.standard_normal((40, 7)).astype(np.float32)
    mean = MeanVectors(pa.array(words), np.arange(40), matrix)
    picks = [draw.choice(50, size) for size in draw.integers(0, 30, 100)]
    texts = pa.array([" ".join(f"w{pick}" for pick in pick_s) for pick_s in picks])
    want = [matrix[[p for p in pick if p < 40]].astype(np.float64).sum(0) for pick in picks]
    np.testing.assert_allclose(mean(texts), want, rtol=1e-4, atol=1e-5)


def test_the_best_come_in_their_order_with_ties_to_the_first_and_unknown_last():
    scores = np.array([0.1, np.nan, 0.5, 0.5, -1, 0.5, np.nan], np.float32)
    assert best(scores, 2).tolist() == [2, 3]
    assert best(scores, 4).tolist() == [0, 2, 3, 5]
    assert best(scores, 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert best(scores, 99).tolist() == list(range(7))
    assert best(scores[:0], 3).tolist() == []
