"""Figures by hand, and every sample once."""

import pytest
import torch
from reelmill.train.metrics import Accuracy, ScoreBook, harmonic_mean, per_class, top1, top1_within

SCORES = torch.tensor([[3.0, 1, 0, 2], [0, 1, 2, 3], [1, 0, 5, 4], [0, 2, 0, 1]])
LABELS = torch.tensor([0, 2, 2, 3])


def test_top1_counts_the_highest_score():
    assert top1(SCORES, LABELS) == Accuracy(0.5, 0.25, 4)
    assert top1(torch.empty(0, 0), torch.empty(0, dtype=torch.int64)) == Accuracy(0.0, 0.0, 0)


def test_per_class_leaves_out_classes_without_samples():
    figures = per_class(SCORES, LABELS, ["a", "b", "c", "d"])
    assert figures == {"a": Accuracy(1.0, 0.25, 1), "c": Accuracy(0.5, 0.25, 2), "d": Accuracy(0.0, 0.25, 1)}


def test_top1_within_a_group_ignores_the_scores_of_other_groups():
    # Groups {0, 1, 2} and {3}: sample 1 is right once class 3 is out, sample 3 has nothing to choose.
    assert top1_within(SCORES, LABELS, ["x", "x", "x", "y"]) == Accuracy(1.0, 1 / 3, 3)
    # Groups {0, 3} and {1, 2}: sample 3 chooses 3 (1 > 0).
    assert top1_within(SCORES, LABELS, ["x", "y", "y", "x"]) == Accuracy(1.0, 0.5, 4)
    # Groups {0, 3} and {1, 2}, label of sample 0 is 3: it chooses 0 and is wrong.
    assert top1_within(SCORES, torch.tensor([3, 2, 2, 3]), ["x", "y", "y", "x"]).accuracy == 0.75


def test_chance_within_groups_is_the_mean_over_samples():
    labels = torch.tensor([0, 0, 0, 2])
    figure = top1_within(SCORES, labels, ["x", "x", "y", "y"])
    assert figure.chance == 0.5
    figure = top1_within(torch.rand(4, 5), labels, ["x", "x", "y", "y", "y"])
    assert figure.chance == pytest.approx((3 / 2 + 1 / 3) / 4)


def test_top1_within_groups_of_one_asks_nothing():
    assert top1_within(SCORES, LABELS, ["a", "b", "c", "d"]) == Accuracy(0.0, 0.0, 0)


@pytest.mark.parametrize(("base", "novel", "mean"), [(0.5, 0.5, 0.5), (1.0, 0.5, 2 / 3), (0.3, 0.0, 0.0), (0, 0, 0)])
def test_harmonic_mean(base, novel, mean):
    assert harmonic_mean(base, novel) == pytest.approx(mean)


def test_every_key_counts_once_and_padding_never():
    book = ScoreBook()
    labels, valid = torch.tensor([1, 0, -1]), torch.tensor([True, True, True])
    book.add(["b", "a", "unlabelled"], torch.tensor([[0.0, 1], [1, 0], [1, 0]]), labels, valid)
    # The tail of a padded epoch repeats "b" with valid False; another loader brings "a" again with other scores.
    book.add(["b", "a"], torch.tensor([[9.0, 0], [0, 9]]), torch.tensor([1, 0]), torch.tensor([False, True]))
    book.add(["broken"], torch.tensor([[9.0, 0]]), torch.tensor([0]), torch.tensor([False]))
    assert book.scores_NC().tolist() == [[1, 0], [0, 1]]
    assert book.labels_N().tolist() == [0, 1]
    assert book.unreadable == 1


def test_the_order_in_which_batches_come_changes_nothing():
    keys = [f"{index:02d}" for index in range(9)]
    scores, labels = torch.rand(9, 3), torch.randint(3, (9,))
    whole, parts = ScoreBook(), ScoreBook()
    whole.add(keys, scores, labels, torch.ones(9, dtype=torch.bool))
    for rows in ([8, 2], [0, 1, 3, 4], [7, 6, 5]):
        parts.add([keys[row] for row in rows], scores[rows], labels[rows], torch.ones(len(rows), dtype=torch.bool))
    assert torch.equal(whole.scores_NC(), parts.scores_NC())
    assert torch.equal(whole.labels_N(), parts.labels_N())
