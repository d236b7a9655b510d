"""The order is pinned: golden values hold the generator and the order in place over versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reelmill.shards.order import (
    MIX_SLOTS,
    SHUFFLED,
    EpochOrder,
    Mixture,
    permutation,
    permuted,
    philox,
    random_words,
    uniforms,
)

GOLDEN_GLOBAL = [9, 0, 8, 5, 2, 3, 11, 4, 7, 1, 10, 6]
GOLDEN_WINDOWED = [7, 9, 10, 11, 8, 5, 6, 4, 3, 2, 0, 1]
GOLDEN_UNIFORMS = [0.5052065824173146, 0.8492144547033353]
GOLDEN_LARGE = [78993229, 42228097, 167596836, 394493934]
GOLDEN_MIXED = [4, 2, 3, 0, 3, 1]
SOURCES = [[3, 4], [5]]
SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [  # known answers of Random123's philox4x32-10
        ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, want):
    assert philox(np.array(counter, np.uint32), key).tolist() == want


def epoch_order(sizes: list[int], **options) -> np.ndarray:
    order = EpochOrder(sizes, **options)
    return order.at(np.arange(len(order)))


def test_golden_order():
    assert epoch_order([3, 4, 5], seed=7, epoch=0).tolist() == GOLDEN_GLOBAL
    assert epoch_order([3, 4, 5], seed=7, epoch=0, window_shards=1).tolist() == GOLDEN_WINDOWED
    assert permuted(np.arange(4), 10**9, "golden", 7).tolist() == GOLDEN_LARGE
    assert Mixture([[3, 4], [5]], [3, 1], seed=7).at(2, np.arange(6))[1].tolist() == GOLDEN_MIXED
    assert uniforms(2, "view", 0).tolist() == GOLDEN_UNIFORMS


@given(sizes=SIZES, seed=st.integers(-5, 5), epoch=st.integers(0, 3), window=st.none() | st.integers(1, 13))
def test_every_sample_comes_once(sizes, seed, epoch, window):
    order = epoch_order(sizes, seed=seed, epoch=epoch, window_shards=window)
    assert sorted(order.tolist()) == list(range(sum(sizes)))
    order_at = EpochOrder(sizes, seed=seed, epoch=epoch, window_shards=window).at
    assert [int(order_at(np.array([place]))[0]) for place in range(len(order))] == order.tolist()


@given(count=st.integers(1, 5000), seed=st.integers(0, 2**40))
def test_a_permutation_can_be_asked_for_some_places_alone(count, seed):
    whole = permuted(np.arange(count), count, "some", seed)
    assert sorted(whole.tolist()) == list(range(count))
    places = np.array([0, count - 1, count // 2])
    assert permuted(places, count, "some", seed).tolist() == whole[places].tolist()
    if count <= SHUFFLED:
        assert whole.tolist() == permutation(count, "some", seed).tolist()


def test_a_large_permutation_is_uniform_enough():
    """Where thousands of neighbours land, in 10 x 10 cells: chi-square with 81 degrees of freedom, below 140."""
    counts = np.zeros((10, 10))
    for seed in range(100):
        values = permuted(np.arange(5000), 5000, "cells", seed)
        np.add.at(counts, (np.arange(5000) // 500, values // 500), 1)
    assert ((counts - 5000) ** 2 / 5000).sum() < 140
    first = np.array([permuted(np.array([7]), 5000, "first", seed)[0] for seed in range(2000)])
    assert ((np.bincount(first // 500, minlength=10) - 200) ** 2 / 200).sum() < 35


@given(sizes=SIZES, window=st.integers(1, 13))
def test_a_window_holds_whole_shards(sizes, window):
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    seen = shard_of[epoch_order(sizes, seed=1, epoch=2, window_shards=window)]
    spans = [(np.flatnonzero(seen == shard).min(), np.flatnonzero(seen == shard).max()) for shard in set(seen.tolist())]
    for place in range(len(seen)):
        assert sum(first <= place <= last for first, last in spans) <= window


def test_seed_and_epoch_change_the_order():
    orders = {tuple(epoch_order([50], seed=seed, epoch=epoch).tolist()) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_words_do_not_depend_on_how_many_are_asked():
    assert random_words(5, "a").tolist() == random_words(9, "a")[:5].tolist()


def test_permutation_is_uniform_enough():
    """Each value lands in each place about equally often: chi-square with 15 degrees of freedom, far below 60."""
    places = np.array([permutation(16, seed).tolist().index(3) for seed in range(1600)])
    counts = np.bincount(places, minlength=16)
    assert ((counts - 100) ** 2 / 100).sum() < 60


def test_window_must_be_positive():
    with pytest.raises(ValueError, match="window_shards must be >= 1 or None, got 0"):
        epoch_order([3], seed=0, epoch=0, window_shards=0)


WEIGHTS = st.lists(st.floats(0.05, 10), min_size=1, max_size=3)


@settings(deadline=None, max_examples=50)
@given(WEIGHTS, st.data())
def test_a_mixture_keeps_to_its_weights_and_every_source_to_its_own_epochs(weights, data):
    sources = [data.draw(st.lists(st.integers(5, 40), min_size=1, max_size=5)) for _ in weights]
    mixture = Mixture(sources, weights, seed=3, window_shards=data.draw(st.none() | st.integers(1, 4)))
    epochs = 3 + 2 * MIX_SLOTS // len(mixture)
    whole = [mixture.at(epoch, np.arange(len(mixture))) for epoch in range(epochs)]
    turns, samples = (np.concatenate(parts) for parts in zip(*whole, strict=True))
    for source, sizes in enumerate(sources):
        its = samples[turns == source]
        full = len(its) // sum(sizes)
        for pass_over in its[: full * sum(sizes)].reshape(full, sum(sizes)):
            assert sorted(pass_over.tolist()) == list(range(sum(sizes)))
        share = (turns[: len(turns) // MIX_SLOTS * MIX_SLOTS] == source).mean()
        assert abs(share - weights[source] / sum(weights)) <= 1 / MIX_SLOTS + 1e-9
    epoch, place = data.draw(st.integers(0, 9)), data.draw(st.integers(0, len(mixture) - 1))
    alone = Mixture(sources, weights, seed=3).at(epoch, np.array([place]))
    everything = Mixture(sources, weights, seed=3).at(epoch, np.arange(len(mixture)))
    assert [part[0] for part in alone] == [part[place] for part in everything]


def test_threads_may_ask_for_different_epochs():
    """One that fetches ahead asks for the next epoch, in between whatever the other one does."""

    class Shared(dict):
        def __setitem__(self, source, known):
            super().__setitem__(source, (99, EpochOrder(SOURCES[source], seed=7, epoch=99, source=source)))

    mixture, places = Mixture(SOURCES, [3, 1], seed=7), np.arange(12)
    want = mixture.at(2, places)[1].tolist()
    mixture._orders = Shared()
    assert mixture.at(2, places)[1].tolist() == want


def test_one_source_alone_is_its_own_epochs():
    sources, samples = Mixture([[3, 4, 5]], [0.7], seed=7).at(4, np.arange(12))
    assert not sources.any()
    assert samples.tolist() == epoch_order([3, 4, 5], seed=7, epoch=4).tolist()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], r"weights must be 2 numbers > 0, one for each source, got \[1\]"),
        ([1, 0], r"weights must be 2 numbers > 0, .* got \[1, 0\]"),
        ([1, float("nan")], "weights must be 2 numbers > 0"),
        ([1e9, 1], "a weight must be at least 1/1000 of all, got 1"),
    ],
)
def test_weights_are_checked(weights, message):
    with pytest.raises(ValueError, match=message):
        Mixture([[1], [1]], weights, seed=0)


def test_an_empty_source_is_refused():
    with pytest.raises(ValueError, match=r"every source must hold a sample, got \[3, 0\]"):
        Mixture([[3], [0, 0]], [1, 1], seed=0)
