"""Draws for training: pure functions of their seed, whose cost follows from what is drawn, not from what there is."""

from collections.abc import Mapping, Sequence

from ..order import random_words
from .texts import SynonymTree, VerbObject


def draw_texts(texts: Sequence[str], k: int, *, seed: int, action_id: int) -> list[str]:
    """`k` different texts of an action in a seeded order, in O(k); all of them where there are fewer.

    Args:
        texts: of the action, in stored order; only those that are drawn are read.
        k: how many; a longer draw begins with the shorter one.
        seed: any int.
        action_id: an action draws the same whatever other actions there are.
    """
    return [texts[place] for place in draw_order(len(texts), k, "draw", seed, action_id)]


def draw_names(
    action_ids: Sequence[int],
    labels: Mapping[int, VerbObject],
    trees: Mapping[str, SynonymTree],
    *,
    seed: int,
    step: int,
) -> list[str]:
    """A name for every class out of its concept: its verb or a synonym of order 1, with its object (ACE Eq. 4-5).

    Args:
        action_ids: the classes.
        labels: action id → its label taken apart (`bank_texts.read_verb_objects`), of every class.
        trees: verb → tree (`bank_texts.read_synonyms`); a verb without a tree stands alone.
        seed: any int.
        step: of training; every step draws anew, and a class draws the same whatever other classes there are.
    """
    names = []
    for number in action_ids:
        label = labels[number]
        words = trees[label.verb].children if label.verb in trees else (label.verb,)
        [place] = draw_order(len(words), 1, "name", seed, step, number)
        names.append(label.text(words[place]))
    return names


def draw_order(count: int, k: int, *parts: object) -> list[int]:
    """The first `k` places of a shuffle of range(count), of the stream named by `parts`, in O(k) time and memory.

    Fisher and Yates' shuffle, noting only the places that it has swapped: step i takes one of the count - i that are
    left, by word i of the stream. Every order is as likely as another, but for a bias below count / 2^64. Where
    `order.permuted` answers for any place of a permutation, this knows only its beginning, in a third of the time.
    """
    order: list[int] = []
    moved: dict[int, int] = {}
    for i, word in enumerate(random_words(max(0, min(k, count)), *parts).tolist()):
        place = i + (word * (count - i) >> 64)
        order.append(moved.get(place, place))
        moved[place] = moved.pop(i, i)
    return order
