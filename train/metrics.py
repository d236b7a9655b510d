"""Figures of an evaluation, every sample counted exactly once. Shapes: N samples, C classes."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import distributed


class ScoreBook:
    """Scores by sample key: a sample that comes twice (padding, several loaders) counts once, the first time."""

    def __init__(self) -> None:
        self._scores: dict[str, Tensor] = {}
        self._labels: dict[str, int] = {}
        self._unreadable: set[str] = set()

    def add(self, keys: Sequence[str], scores_BC: Tensor, labels_B: Tensor, valid_B: Tensor) -> None:
        """Take a batch: keys, (B, C) scores, (B,) labels with -1 for none, (B,) whether the pixels are the sample's."""
        rows = zip(keys, scores_BC.float().cpu(), labels_B.tolist(), valid_B.tolist(), strict=True)
        for key, scores_C, label, valid in rows:
            if label < 0 or key in self._scores:
                continue
            if valid:
                self._scores[key] = scores_C
                self._labels[key] = label
            else:
                self._unreadable.add(key)

    def add_ranks(self) -> None:
        """Take what the other ranks have; each sample still counts once. All ranks call it."""
        if distributed.world_size() == 1:
            return
        keys = [*self._scores, *sorted(self._unreadable - self._scores.keys())]
        names = [key.encode() for key in keys]
        own = len(keys), max(map(len, names), default=0), len(next(iter(self._scores.values()), torch.empty(0)))
        rows, length, classes = distributed.most(torch.tensor(own)).tolist()
        name_NL = torch.zeros(rows, length, dtype=torch.uint8)  # a name of length 0 is no sample
        label_N, scores_NC = torch.full((rows,), -1), torch.zeros(rows, classes)
        for row, (key, name) in enumerate(zip(keys, names, strict=True)):
            name_NL[row, : len(name)] = torch.frombuffer(bytearray(name), dtype=torch.uint8)
            if key in self._scores:
                label_N[row], scores_NC[row] = self._labels[key], self._scores[key]
        for name_L, label, scores_C in zip(*map(distributed.gather, (name_NL, label_N, scores_NC)), strict=True):
            key = bytes(name_L.tolist()).rstrip(b"\0").decode()
            if key and label < 0:
                self._unreadable.add(key)
            elif key and key not in self._scores:
                self._scores[key], self._labels[key] = scores_C, int(label)

    @property
    def unreadable(self) -> int:
        """Labelled samples that came, but never with pixels of their own."""
        return len(self._unreadable - self._scores.keys())

    def scores_NC(self) -> Tensor:
        """(N, C) fp32, in the order of the sorted keys."""
        return torch.stack([self._scores[key] for key in sorted(self._scores)]) if self._scores else torch.empty(0, 0)

    def labels_N(self) -> Tensor:
        """(N,) int64, in the order of `scores_NC`."""
        return torch.tensor([self._labels[key] for key in sorted(self._labels)], dtype=torch.int64)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right answers beside what guessing would reach; both in [0, 1], 0 where there are no samples."""

    accuracy: float
    chance: float
    samples: int


def top1(scores_NC: Tensor, labels_N: Tensor) -> Accuracy:
    """Share of samples whose highest score is the right class."""
    if not len(labels_N):
        return Accuracy(0.0, 0.0, 0)
    right_N = scores_NC.argmax(dim=1) == labels_N
    return Accuracy(right_N.double().mean().item(), 1 / scores_NC.shape[1], len(labels_N))


def per_class(scores_NC: Tensor, labels_N: Tensor, classes: Sequence[str]) -> dict[str, Accuracy]:
    """Top-1 of the samples of each class, among all classes; a class without samples is absent."""
    return {
        name: top1(scores_NC[labels_N == index], labels_N[labels_N == index])
        for index, name in enumerate(classes)
        if (labels_N == index).any()
    }


def top1_within(scores_NC: Tensor, labels_N: Tensor, groups: Sequence[Hashable]) -> Accuracy:
    """Top-1 among the classes of the right class's group only, from the same scores.

    Args:
        scores_NC: (N, C).
        labels_N: (N,) int64 in [0, C).
        groups: group of each of the C classes.

    Returns:
        Chance is the mean over samples of 1 / the size of their group. A sample whose class is alone in its group has
        nothing to choose and is left out.
    """
    number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    group_C = torch.tensor([number[group] for group in groups])
    same_NC = group_C[labels_N][:, None] == group_C
    size_N = same_NC.sum(dim=1)
    asked_N = size_N > 1
    if not asked_N.any():
        return Accuracy(0.0, 0.0, 0)
    chosen_N = scores_NC.masked_fill(~same_NC, float("-inf")).argmax(dim=1)
    right_N = (chosen_N == labels_N)[asked_N].double()
    return Accuracy(right_N.mean().item(), (1 / size_N[asked_N].double()).mean().item(), int(asked_N.sum()))


def harmonic_mean(base: float, novel: float) -> float:
    """2bn / (b + n); 0 where both are 0."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0
