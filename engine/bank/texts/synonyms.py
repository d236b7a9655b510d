"""Synonym trees of verbs (ACE), and everything that is drawn from them. Pure: a draw is a function of its seed.

    v+   children of v: v itself first, then its synonyms, at most M; a verb with fewer synonyms keeps fewer, as a
         repeated child would count twice in the mean of Eq. 3
    (a+)_i = (v+)_i ⊕ o                                                       leaves of an action a = v ⊕ o
    v~_i ~ U(V(a_i)+)                                                         Eq. 4-5, a class named anew
    V(a_i)^- = U_j (V(a_j)+ \\ V(a_i)+)                                       Eq. 6, shadow negatives
    v~^-_i ~ U(V(a_i)^-)                                                      Eq. 7

Where all classes share their verbs Eq. 6 is empty: such a class has no shadow (None).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ....shards.bank.texts import SynonymTree, VerbObject
from ....shards.errors import UsageError
from ....shards.order import random_words
from .origin import Origin
from .prompts import plain

Trees = Mapping[str, SynonymTree]
T = TypeVar("T")


class Shadow(NamedTuple):
    """A verb of another concept."""

    verb: str
    owner: int
    """The class whose concept it is of: the first in class order that has it."""


def children(parent: str, synonyms: Iterable[str], limit: int) -> tuple[str, ...]:
    """The parent, then its synonyms in their order: normalised, each once, at most `limit` with the parent."""
    words = (tidy(word) for word in (parent, *synonyms))
    return tuple(dict.fromkeys(word for word in words if word))[:limit]


def tidy(word: str) -> str:
    """A verb as trees hold it: plain text in lower case with single spaces."""
    return " ".join(plain(word).lower().split())


def build_tree(verb: str, synonyms: Mapping[str, Sequence[str]], *, first: int, second: int) -> SynonymTree:
    """A tree of orders 1 and 2.

    Args:
        verb: the root.
        synonyms: each synonym of the verb, in order → its own synonyms. The verb among them gives the replicated
            root other children of order 2 than those of order 1.
        first: M of order 1, the verb included, >= 1.
        second: M of order 2, the parent included, >= 1.
    """
    words = children(verb, synonyms, first)
    known = {tidy(word): more for word, more in synonyms.items()}
    known.setdefault(words[0], words[1:])
    return SynonymTree(words[0], words, {word: children(word, known.get(word, ()), second) for word in words})


def tree_rows(tree: SynonymTree, origin: Mapping[str, Origin]) -> Iterator[dict[str, Any]]:
    """A tree as rows of synonyms.parquet.

    Args:
        tree: the tree.
        origin: parent → where its children come from; "" for parents that are not named.
    """
    levels = [(1, tree.verb, tree.children), *((2, parent, words) for parent, words in tree.grandchildren.items())]
    for order, parent, words in levels:
        for position, child in enumerate(words):
            row = {"verb": tree.verb, "order": order, "parent": parent, "child": child, "position": position}
            yield row | origin.get(parent, origin[""]).columns()


def leaves(action: VerbObject, trees: Trees, verb: str | None = None) -> list[str]:
    """(a+)_i: an action under its verb or one of its synonyms, as the texts whose embeddings Eq. 3 averages.

    Args:
        action: the label taken apart.
        trees: verb → tree; a verb without a tree stands alone.
        verb: the name that the action has now: its own verb (default) or a child of it.
    """
    tree = trees.get(action.verb, SynonymTree(action.verb, (action.verb,), {}))
    return [action.text(word) for word in tree.children_of(verb or action.verb)]


def positives(verb: str, trees: Trees) -> tuple[str, ...]:
    """V(a)+ of an action with this verb."""
    return trees[verb].children if verb in trees else (verb,)


def shadow_pools(verbs: Sequence[str], trees: Trees) -> list[list[Shadow]]:
    """V(a_i)^- of Eq. 6 for every class.

    Args:
        verbs: the verb of each class, in class order.
        trees: verb → tree.

    Returns:
        One pool per class: each verb once, by class, then by position; empty where no other concept has another verb.
    """
    pools = []
    owners: dict[str, int] = {}
    for j, verb in enumerate(verbs):
        for word in positives(verb, trees):
            owners.setdefault(word, j)
    for verb in verbs:
        own = set(positives(verb, trees))
        pools.append([Shadow(word, j) for word, j in owners.items() if word not in own])
    return pools


def shadow_words(
    shadow: Shadow, true_verb: str, verbs: Sequence[str], trees: Trees, *, keep_shared: bool = False
) -> tuple[str, ...]:
    """The verbs whose leaves a shadow averages: its own children.

    Args:
        shadow: out of the pool of the true class.
        true_verb: verb of the true class.
        verbs: the verb of each class.
        trees: verb → tree.
        keep_shared: keep children that are also in V(a)+ of the true class. Trees of a language model overlap, and
            such a child would punish what is right; so they are dropped by default. The shadow itself always stays.
    """
    owner = verbs[shadow.owner]
    words = trees[owner].children_of(shadow.verb) if owner in trees else (shadow.verb,)
    own = set() if keep_shared else set(positives(true_verb, trees))
    return tuple(word for word in words if word not in own)


def draw_positives(verbs: Sequence[str], trees: Trees, *, seed: int, step: int) -> list[str]:
    """v~_i of Eq. 4-5: a name for every class, for one step of training; classes draw independently."""
    words = random_words(len(verbs), "synonym", seed, step)
    return [_pick(positives(verb, trees), word) for verb, word in zip(verbs, words, strict=True)]


def draw_shadows(pools: Sequence[Sequence[Shadow]], *, seed: int, step: int) -> list[Shadow | None]:
    """Eq. 7: a shadow for every class, for one step of training; None where its pool is empty."""
    words = random_words(len(pools), "shadow", seed, step)
    return [_pick(pool, word) if pool else None for pool, word in zip(pools, words, strict=True)]


def srt_draws(
    classes: Sequence[tuple[str, str]], trees: Trees, *, runs: int, seed: int, seen: Set[str] = frozenset()
) -> dict[str, dict[str, str]]:
    """Draws of the synonym robustness test: in every run one unseen synonym per class.

    Args:
        classes: (class id, verb) of every novel class.
        trees: the test trees.
        runs: how many draws; a run does not depend on their number.
        seed: any int.
        seen: verbs of training, which are no unseen synonyms.

    Returns:
        {run: {class id: verb}}: children of order 1 other than the root. A class draws the same whatever other
        classes there are.

    Raises:
        UsageError: classes have no such synonym; names them.
    """
    pools = {name: [w for w in positives(verb, trees)[1:] if w not in seen] for name, verb in classes}
    bare = [f"{name} ({verb!r})" for name, verb in classes if not pools[name]]
    if bare:
        raise UsageError(
            f"every class must have an unseen synonym of order 1 in synonyms.parquet, but {len(bare)} of {len(classes)}"
            f" have none: {', '.join(bare[:10])}"
        )
    draws: dict[str, dict[str, str]] = {}
    for run in range(runs):
        draws[str(run)] = {name: _pick(pools[name], random_words(1, "srt", seed, run, name)[0]) for name, _ in classes}
    return draws


def _pick(pool: Sequence[T], word: np.uint64) -> T:
    """A uniform draw; with 64 random bits the bias of the remainder is smaller than 2^-50."""
    return pool[int(word) % len(pool)]
