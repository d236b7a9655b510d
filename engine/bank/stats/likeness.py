"""How the texts and names of some actions lie to each other, by their mean word vectors (ActionHub's Figure 6).

The plane is that of the two largest principal components of the descriptions shown. Which actions are nearest is told
among all of them, in all dimensions.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ....shards.bank import Action, Bank
from ....shards.errors import UsageError
from ..selection.relevance import Floats, MeanVectors, split_words, units
from ..selection.vectors import Found, keep_vectors

SHOWN_ACTIONS = 5
DRAWN = 100
"""Descriptions of an action that are drawn, and whose mean stands for all of them."""
NEAREST = 3
_SEED = 0


@dataclass(frozen=True, slots=True)
class Cloud:
    """The vectors of one action, in the plane."""

    name: str
    texts_N2: Floats
    """Some of its descriptions."""
    center_2: Floats
    name_2: Floats | None
    """None where no word of the name has a vector."""
    near_by_name: list[str]
    """The actions whose names are nearest, the nearest first."""
    near_by_texts: list[str]
    """Those whose descriptions are."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Some actions in a plane."""

    clouds: list[Cloud]
    found: Found
    share: float
    """Of the variance that the plane shows."""


def compare(folder: Path, vectors: Path, asked: Sequence[str]) -> Likeness:
    """Compare actions by the mean word vectors of their names and of at most `DRAWN` drawn descriptions each.

    Args:
        folder: the bank.
        vectors: a file of word vectors.
        asked: actions to show; none for those with most descriptions.

    Raises:
        UsageError: an action that the bank does not have, or that has nothing to show; the vectors do not read.
    """
    bank = Bank.open(folder)
    shown = [bank.find(name) for name in asked]
    drawn = {a.action_id: bank.draw(a.action_id, DRAWN, seed=_SEED) for a in bank.actions}
    names = pa.array([action.canonical for action in bank.actions], pa.string())
    wanted = set(split_words(names).of_T.dictionary.to_pylist())
    for texts in drawn.values():
        wanted.update(split_words(pa.array(texts, pa.string())).of_T.dictionary.to_pylist())
    with tempfile.TemporaryFile() as kept:
        found = keep_vectors(vectors, wanted - {""}, kept)
        if not found.rows:
            raise UsageError(f"vectors {vectors} must have at least one word of the bank, got none")
        kept.flush()
        words = sorted(found.rows)
        rows = np.array([found.rows[word] for word in words], np.int64)
        matrix = np.memmap(kept, "<f4", "r").reshape(-1, found.dimensions)
        embed = MeanVectors(pa.array(words, pa.string()), rows, matrix)
        names_AD = units(embed(names))
        texts_of = {number: _known(units(embed(pa.array(texts, pa.string())))) for number, texts in drawn.items()}
    if not shown:
        known = [action for action in bank.actions if len(texts_of[action.action_id])]
        shown = sorted(known, key=lambda action: (-action.descriptions, action.canonical))[:SHOWN_ACTIONS]
    centers_AD = units(np.stack([texts_of[action.action_id].sum(0) for action in bank.actions]))
    return _plane(bank.actions, shown, texts_of, names_AD, centers_AD, found)


def _known(units_ND: Floats) -> Floats:
    return units_ND[~np.isnan(units_ND[:, 0])]


def _plane(
    actions: Sequence[Action],
    shown: Sequence[Action],
    texts_of: Mapping[int, Floats],
    names_AD: Floats,
    centers_AD: Floats,
    found: Found,
) -> Likeness:
    for action in shown:
        if not len(texts_of[action.action_id]):
            raise UsageError(f"action {action.canonical!r} must have a description with a known word, but has none")
    cloud_ND = np.concatenate([texts_of[action.action_id] for action in shown])
    mean_D = cloud_ND.mean(0)
    _, sizes, axes = np.linalg.svd(cloud_ND - mean_D, full_matrices=False)
    plane_D2 = np.zeros((cloud_ND.shape[1], 2))
    for number, axis in enumerate(axes[:2]):
        plane_D2[:, number] = axis * np.sign(axis[np.abs(axis).argmax()])  # a singular vector has no sign of its own
    place = {action.action_id: number for number, action in enumerate(actions)}
    clouds = []
    for action in shown:
        texts_ND, number = texts_of[action.action_id], place[action.action_id]
        name_D = names_AD[number]
        clouds.append(
            Cloud(
                action.canonical,
                (texts_ND - mean_D) @ plane_D2,
                (texts_ND.mean(0) - mean_D) @ plane_D2,
                None if np.isnan(name_D[0]) else (name_D - mean_D) @ plane_D2,
                _nearest(actions, names_AD, number),
                _nearest(actions, centers_AD, number),
            )
        )
    total = float((sizes**2).sum())
    return Likeness(clouds, found, float((sizes[:2] ** 2).sum()) / total if total else 0.0)


def _nearest(actions: Sequence[Action], units_AD: Floats, number: int) -> list[str]:
    similar_A = units_AD @ units_AD[number]
    similar_A[number] = np.nan
    order = np.argsort(np.where(np.isnan(similar_A), np.inf, -similar_A), kind="stable")
    return [actions[place].canonical for place in order[:NEAREST].tolist() if not np.isnan(similar_A[place])]
