"""Near duplicates: all that are planted are found, nothing else is, and cost stays below quadratic."""

import random
from collections import Counter

import numpy as np
import pytest
from reelmill.engine.bank.records import near
from reelmill.engine.bank.records.config import DedupOptions
from reelmill.engine.bank.records.merging import find_duplicates
from reelmill.engine.bank.records.near import bands_of, find_near, words_of


def similarity(first: str, second: str, shingle_words: int = 1) -> float:
    """By the definition, in plain Python."""

    def shingles(text: str) -> Counter[str]:
        words = words_of(text)
        last = max(1, len(words) - shingle_words + 1)
        return Counter(" ".join(words[i : i + shingle_words]) for i in range(last))

    a, b = shingles(first), shingles(second)
    return float(sum((a & b).values()) / max(1, sum((a | b).values())))


def planted(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Texts of 10 to 30 words by Zipf's law, and one changed copy of every fifth; -1 or what each is a copy of."""
    draw = random.Random(seed)
    vocabulary = [f"w{n}" for n in range(5000)]
    weights = [1 / (n + 1) for n in range(5000)]
    texts = [" ".join(draw.choices(vocabulary, weights, k=draw.randint(10, 30))) for _ in range(count)]
    of = [-1] * count
    for place in range(0, count, 5):
        words = texts[place].split()
        match place // 5 % 5:
            case 0:
                words = [word.upper() for word in words]
            case 1:
                words = [word + "," for word in words]
            case 2:
                i, j = draw.sample(range(len(words)), 2)
                words[i], words[j] = words[j], words[i]
            case 3:
                i = draw.randrange(len(words) - 1)
                words[i : i + 2] = reversed(words[i : i + 2])
            case 4:
                words[draw.randrange(len(words))] = "something"
        texts.append(" ".join(words))
        of.append(place)
    return texts, of


@pytest.mark.parametrize(("count", "seed"), [(40, 0), (400, 1), (8000, 2)])
def test_planted_copies_are_found_and_nothing_else(count, seed):
    texts, truth = planted(count, seed)
    found = find_near(texts, threshold=0.8)
    copies = np.array(truth) >= 0
    assert (found[copies] >= 0).mean() >= 0.98
    assert (found[~copies] < 0).all()
    wrong = [(texts[i], texts[int(of)]) for i, of in enumerate(found) if of >= 0 and of != truth[i]]
    assert not wrong


@pytest.mark.parametrize("shingle_words", [1, 2])
@pytest.mark.parametrize("threshold", [0.6, 0.8, 1.0])
def test_exactly_the_texts_that_are_similar_enough_go(monkeypatch, threshold, shingle_words):
    monkeypatch.setattr(near, "MISSED", 1e-6)
    draw = random.Random(3)
    texts = [" ".join(draw.choices("abcdefgh", k=draw.randint(0, 9))) for _ in range(150)]
    found = find_near(texts, threshold=threshold, shingle_words=shingle_words)
    kept: list[int] = []
    for place, text in enumerate(texts):
        close = [i for i in kept if similarity(texts[i], text, shingle_words) >= threshold - 1e-9]
        if found[place] < 0:
            assert not words_of(text) or not close
            kept.append(place)
        else:
            assert int(found[place]) in close


def test_the_first_stays_and_what_the_bank_has_stays():
    texts = ["a red ball flies over it", "A red ball flies over IT!", "over it flies a red ball", "no"]
    assert find_near(texts, threshold=0.8).tolist() == [-1, 0, 0, -1]
    assert find_near(texts, threshold=0.8, kept=2).tolist() == [-1, -1, 0, -1]


def test_what_is_dropped_is_near_to_something_that_stays():
    words = [f"w{n}" for n in range(60)]
    texts = [" ".join(words[n : n + 20]) for n in range(40)]  # each is near the next two, not the ones after
    found = find_near(texts, threshold=0.8)
    assert 1 < (found < 0).sum() < 40
    for place, of in enumerate(found.tolist()):
        if of >= 0:
            assert found[of] < 0
            assert similarity(texts[of], texts[place]) >= 0.8


def test_order_counts_with_longer_shingles():
    texts = ["the dog bites the man", "the man bites the dog"]
    assert find_near(texts, threshold=0.8).tolist() == [-1, 0]
    assert find_near(texts, threshold=0.8, shingle_words=2).tolist() == [-1, -1]


def test_repeated_words_count_as_often_as_they_stand():
    assert find_near(["go go go go", "go"], threshold=0.5).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Straße, HÖHE!", ["strasse", "höhe"]),
        ("a_b-c's", ["a", "b", "c", "s"]),
        ("跳高 now", ["跳", "高", "now"]),
        ("...", []),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


def test_texts_without_words_are_near_nothing():
    assert find_near(["...", "!!!", "", "?"], threshold=0.5).tolist() == [-1] * 4
    assert find_near([], threshold=0.5).tolist() == []


def test_a_crowd_of_one_template_is_compared_less_than_in_pairs(monkeypatch):
    """Five thousand texts that share 15 of 20 words: all in one bucket of many bands."""
    draw = random.Random(4)
    frame = [f"frame{n}" for n in range(15)]
    texts = [" ".join([*frame, *(f"w{draw.randrange(10**6)}" for _ in range(5))]) for _ in range(5000)]
    compared = 0
    shared = near._shared

    def counted(shingles_S, starts_N1, first, later):
        nonlocal compared
        compared += len(first)
        return shared(shingles_S, starts_N1, first, later)

    monkeypatch.setattr(near, "_shared", counted)
    assert (find_near(texts, threshold=0.8) < 0).all()
    bands, _ = bands_of(5000, 0.8)
    assert compared <= 5000 * bands * (near.FIRST + near.BEFORE)


def test_long_texts_are_compared_a_few_at_a_time(monkeypatch):
    texts, _ = planted(300, 5)
    want = find_near(texts, threshold=0.8)
    monkeypatch.setattr(near, "SHINGLES_AT_ONCE", 10)
    monkeypatch.setattr(near, "PAIRS_AT_ONCE", 10)
    assert (find_near(texts, threshold=0.8) == want).all()


def test_bands_grow_slowly():
    assert bands_of(100, 1.0)[0] == 1
    few, many = bands_of(1000, 0.8), bands_of(1_000_000, 0.8)
    assert few[0] * few[1] < many[0] * many[1] < 8 * few[0] * few[1]


def test_copies_of_a_text_that_goes_lead_to_the_one_that_stays():
    texts = ["a red ball flies", "A RED BALL flies", "A RED BALL flies", "a red ball flies", "else"]
    of, reasons = find_duplicates(texts, DedupOptions())
    assert of.tolist() == [-1, 0, 0, 0, -1]
    assert reasons[1:4] == ["near", "exact", "exact"]
    of, _ = find_duplicates(texts, DedupOptions(dedup="exact"))
    assert of.tolist() == [-1, -1, 1, 0, -1]
    of, _ = find_duplicates(["x", "x", "x"], DedupOptions(dedup="none"))
    assert of.tolist() == [-1, -1, -1]
