"""Trees of synonyms, Eq. 6 of ACE, and draws that depend on nothing but their seed and their action."""

import numpy as np
import pytest
from reelmill.shards.bank.texts import SynonymTree
from reelmill.shards.order import random_words
from reelmill.train.methods.trees import below, choose, negatives, tree_of, words_at

PUSH = SynonymTree(
    "push",
    ("push", "shove", "press"),
    {"push": ("push", "propel"), "shove": ("shove", "thrust", "push"), "press": ("press", "squeeze")},
)
PRESS = SynonymTree("press", ("press", "flatten"), {"press": ("press", "iron"), "flatten": ("flatten", "crush")})
LIFT = SynonymTree("lift", ("lift", "raise"), {"lift": ("lift",), "raise": ("raise", "boost")})
TREES = {tree.verb: tree for tree in (PUSH, PRESS, LIFT)}


def test_a_tree_is_cut_and_a_verb_without_one_stands_alone():
    assert tree_of("push", TREES) == PUSH
    cut = tree_of("push", TREES, first=2, second=1)
    assert cut == SynonymTree("push", ("push", "shove"), {"push": ("push",), "shove": ("shove",)})
    alone = tree_of("wave", TREES)
    assert (alone.children, below(alone, "wave")) == (("wave",), ("wave",))


def test_the_verb_as_its_own_child_has_the_children_of_order_two():
    assert below(PUSH, "push") == ("push", "propel")
    assert below(PUSH, "shove") == ("shove", "thrust", "push")


@pytest.mark.parametrize("order", [(PUSH, PRESS, LIFT), (LIFT, PRESS, PUSH)])
def test_negatives_are_equation_6_in_any_order_of_classes(order):
    pools = negatives(order)
    for mine in order:
        want = set()
        for other in order:
            want |= set(other.children) - set(mine.children)
        assert list(pools[mine.verb]) == sorted(want)
    assert pools["lift"] == {"flatten": PRESS, "press": PRESS, "push": PUSH, "shove": PUSH}  # press is a root itself


def test_actions_that_share_their_verb_have_no_negatives():
    assert negatives([PUSH, PUSH]) == {"push": {}}


def test_the_word_of_a_place_is_that_of_the_stream():
    places = [5, 0, (1 << 40) + 3, 5]
    words = words_at(places, "name", 7)
    stream = random_words(6, "name", 7)
    assert (words[0], words[1], words[3]) == (stream[5], stream[0], stream[5])
    assert words[2] == words_at([places[2]], "name", 7)[0]
    assert words_at(places, "name", 8)[0] != words[0]


def test_choices_are_uniform():
    words = np.concatenate([words_at([11, 12], "name", step) for step in range(3000)])
    picked = np.array(choose(words, [3, 4] * 3000)).reshape(3000, 2)
    for column, count in enumerate((3, 4)):
        shares = np.bincount(picked[:, column], minlength=count) / 3000
        np.testing.assert_allclose(shares, 1 / count, atol=0.04)  # four standard deviations are 0.034
    assert abs(np.corrcoef(picked.T)[0, 1]) < 0.08
