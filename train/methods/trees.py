"""Verbs of actions as trees of synonyms: what an action may be called, and what it is not (ACE Eq. 3, 4, 6, 7).

    v+         children of a verb v: itself first, then its synonyms                 order 1
    w+         children of each child w: itself first, then its synonyms             order 2
    V(a)-      verbs of other actions' v+ that are not in this action's v+           Eq. 6

What is drawn is a function of the seed and of the action alone, not of its place among the classes.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...shards.bank.texts import SynonymTree
from ...shards.order import philox, stream_key


def tree_of(verb: str, trees: Mapping[str, SynonymTree], *, first: int = 0, second: int = 0) -> SynonymTree:
    """The tree of a verb, cut to so many children of either order; 0 keeps all. A verb without a tree stands alone."""
    tree = trees.get(verb, SynonymTree(verb, (verb,), {}))
    children = tree.children[: first or None]
    return SynonymTree(verb, children, {child: below(tree, child)[: second or None] for child in children})


def below(tree: SynonymTree, child: str) -> tuple[str, ...]:
    """w+ of a child w of order 1. The verb is a child of itself, whose children are of order 2."""
    return tree.grandchildren.get(child) or tree.children_of(child)


def negatives(trees: Iterable[SynonymTree]) -> dict[str, dict[str, SynonymTree]]:
    """V(a)- of Eq. 6 for each verb: the negative verbs in alphabetical order, and the tree that each is taken from.

    A verb in several trees is taken from the one that it is the root of, else from that of the first root in
    alphabetical order.
    """
    trees_by_root = {tree.verb: tree for tree in trees}
    owners: dict[str, SynonymTree] = {}
    for _, tree in sorted(trees_by_root.items()):
        for child in tree.children:
            owners.setdefault(child, tree)
    owners |= {root: tree for root, tree in trees_by_root.items() if root in tree.children}
    ordered = sorted(owners.items())
    return {
        root: {verb: owner for verb, owner in ordered if verb not in tree.children}
        for root, tree in trees_by_root.items()
    }


def words_at(places: Sequence[int], *parts: object) -> NDArray[np.uint64]:
    """A random 64-bit word for each place, in [0, 2^64), of the stream named by `parts`: places do not share words."""
    indices = np.array(places, dtype=np.uint64)
    counter = np.zeros((len(indices), 4), np.uint32)
    counter[:, 0], counter[:, 1] = indices & np.uint64(0xFFFF_FFFF), indices >> np.uint64(32)
    words = philox(counter, stream_key(*parts))
    return (words[:, 0].astype(np.uint64) << np.uint64(32)) | words[:, 1].astype(np.uint64)


def choose(words: NDArray[np.uint64], counts: Sequence[int]) -> list[int]:
    """A place in range(count) for each word and count, as likely as any other but for a bias below count / 2^64."""
    return [int(word) % count for word, count in zip(words, counts, strict=True)]
