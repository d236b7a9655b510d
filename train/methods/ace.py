"""ACE: an action is the mean of its synonyms, so that a model learns the concept and not the label.

    S(I, a) = 1 / (tau M) sum_i <E(I), G((a+)_i)>                                                            Eq. 3
    L_fixed = CE over the actions as they are called                                                         Eq. 1-2
    L_rand  = CE over the actions under names drawn in this step                                             Eq. 4-5
    both with one more class for each video: a wrong verb with the right object, its shadow negative          Eq. 6-9

Eq. 9 prints a~_y where Eq. 8 has a~^-_y, and one brace for both logarithms: both losses have the same shadow. One is
drawn for each class at the beginning of an iteration (Eq. 7), so videos of a class share theirs; `shadow` can have one
drawn for each video instead. E(I) is the mean of a video's frame embeddings.

Shapes: B videos, C classes, P leaves of all classes, G negatives, N leaves of all negatives, D width.
"""

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...kernels import Segments, synonym_cross_entropy, synonym_similarity
from ...shards.bank import Bank
from ...shards.bank.texts import SynonymTree, VerbObject
from ...shards.errors import UsageError
from ..config import AceConfig
from ..model import TextStates, VideoStates, VideoTextModel
from .method import IGNORED, ClassTexts, Method, Targets
from .trees import below, choose, negatives, tree_of, words_at

_log = logging.getLogger("reelmill.train")

Leaves = tuple[int, ...]
"""Rows of the texts whose mean is one name of an action."""
Names = tuple[Leaves, ...]
"""Names that an action is drawn from."""


@dataclass(frozen=True, slots=True)
class Concepts(ClassTexts):
    """Actions and the texts that they are the mean of."""

    leaves: Segments
    """How the P leaves belong to classes."""
    rows_P: Tensor
    """int64: the text of each leaf."""
    ids: tuple[int, ...]
    """Action id of each class."""
    names: tuple[Names, ...]
    """For each class the names that it may be drawn under (Eq. 4); empty outside of training."""
    shadows: tuple[Names, ...]
    """For each class its negatives (Eq. 6), none where all verbs are its own; empty outside of training."""


class Ace(Method):
    """Two encoders and a score of fixed temperature; nothing else is learnt."""

    def __init__(
        self,
        model: VideoTextModel,
        config: AceConfig,
        bank: Bank,
        labels: Mapping[int, VerbObject],
        trees: Mapping[str, SynonymTree],
        *,
        seed: int = 0,
    ) -> None:
        """Method of a run.

        Args:
            model: the encoders; the factor from scores to logits is frozen, as tau is fixed.
            config: the options.
            bank: says which action a class is.
            labels: action id → its label taken apart.
            trees: verb → its synonyms; a verb without a tree stands alone.
            seed: of the choice of `shadow_verbs`.
        """
        super().__init__(model)
        model.log_scale.requires_grad_(False)
        self._config, self._bank, self._labels, self._trees, self._seed = config, bank, labels, trees, seed

    def describe(
        self, classes: Sequence[str], *, training: bool = False, verbs: Mapping[str, str] | None = None
    ) -> Concepts:
        """The leaves of each class: the same whatever other classes there are, in training and afterwards.

        Args:
            classes: class names.
            training: also the names and negatives that the loss draws from.
            verbs: class → the verb that it is called by, its own or a child of it of order 1; the others are called
                by their own. So the synonym robustness test names classes anew.

        Raises:
            UsageError: a class is no action of the bank or was not taken apart, or a verb is not of its class.
        """
        ids = tuple(self._bank.find(name).action_id for name in classes)
        labels = [self._label(action_id, name) for action_id, name in zip(ids, classes, strict=True)]
        trees = [self._tree(label.verb) for label in labels]
        called = _called(classes, trees, verbs or {})
        table = _Table(self._config.prompt)
        leaves = [
            table.rows(label, tree.children if verb is None else below(tree, verb), self._config.average_leaves)
            for label, tree, verb in zip(labels, trees, called, strict=True)
        ]
        names = self._names(labels, trees, table) if training and self._config.random_loss else ()
        shadows = self._shadows(ids, labels, trees, table) if training and self._config.shadow != "none" else ()
        if training:
            _say_bare({label.verb for label in labels} - self._trees.keys())
        segments, rows_P = self._join(leaves)
        return Concepts(tuple(table.texts), segments, rows_P, ids, names, shadows)

    def forward(self, video: VideoStates, texts: Concepts, states: TextStates) -> Tensor:
        """(B, D): the mean of a video's frames; the scores make it of length 1."""
        return video.frames_BLD.mean(dim=1)

    def scores(self, outputs_B: Tensor, texts: Concepts, states: TextStates) -> Tensor:
        """(B, C) fp32 of Eq. 3."""
        return synonym_similarity(outputs_B, states.texts_MD[texts.rows_P], texts.leaves, scale=1 / self._config.tau)

    def loss(self, outputs_B: Tensor, texts: Concepts, states: TextStates, targets: Targets) -> dict[str, Tensor]:
        """L_fixed and L_rand, those that the config asks for."""
        losses = {}
        if self._config.fixed_loss:
            losses["fixed"] = self._classify(outputs_B, texts.leaves, texts.rows_P, texts, states, targets)
        if self._config.random_loss:
            picked = choose(words_at(texts.ids, "name", targets.seed), [len(names) for names in texts.names])
            drawn = self._join([names[place] for names, place in zip(texts.names, picked, strict=True)])
            losses["random"] = self._classify(outputs_B, *drawn, texts, states, targets)
        return losses

    def _classify(
        self,
        outputs_B: Tensor,
        leaves: Segments,
        rows_P: Tensor,
        texts: Concepts,
        states: TextStates,
        targets: Targets,
    ) -> Tensor:
        """Eq. 8: the mean over the videos of the step."""
        text_PD = states.texts_MD[rows_P]

        def losses_of(labels_B: Tensor) -> Tensor:
            losses_B: Tensor = synonym_cross_entropy(
                outputs_B,
                text_PD,
                leaves,
                labels_B,
                scale=1 / self._config.tau,
                label_smoothing=self.label_smoothing,
                ignore_index=IGNORED,
                reduction="none",
                **self._negatives(labels_B, texts, states, targets),
            )
            return losses_B

        return targets.mean(losses_of)

    def _negatives(self, labels_B: Tensor, texts: Concepts, states: TextStates, targets: Targets) -> dict[str, Any]:
        """Eq. 7, as `synonym_cross_entropy` takes it: the same for both losses. Nothing where no class has a shadow."""
        draw = self._of_videos if self._config.shadow == "per-sample" else self._of_classes
        groups, negative_B = draw(labels_B, texts, targets) if any(texts.shadows) else ([], None)
        if not groups:
            return {}
        segments, rows_N = self._join(groups)
        return {"negative_PD": states.texts_MD[rows_N], "negative_offsets": segments, "negative_B": negative_B}

    def _of_classes(self, labels_B: Tensor, texts: Concepts, targets: Targets) -> tuple[list[Leaves], Tensor]:
        """One negative for each class; and which is each video's, -1 for none."""
        group_of, groups = [-1] * len(texts.shadows), list[Leaves]()
        words = words_at(texts.ids, "shadow", targets.seed)
        for index, (pool, word) in enumerate(zip(texts.shadows, words, strict=True)):
            if pool:
                group_of[index] = len(groups)
                groups.append(pool[int(word) % len(pool)])
        group_C = torch.tensor(group_of, device=labels_B.device)
        return groups, group_C[labels_B.clamp(min=0)].masked_fill(labels_B == IGNORED, -1)

    def _of_videos(self, labels_B: Tensor, texts: Concepts, targets: Targets) -> tuple[list[Leaves], Tensor]:
        """One negative for each video of the batch; and where it is, -1 for none."""
        assert targets.seeds_B is not None, "a step has a seed for each of its videos"
        group_of, groups = list[int](), list[Leaves]()
        for label, seed in zip(labels_B.tolist(), targets.seeds_B.tolist(), strict=True):
            pool = () if label == IGNORED else texts.shadows[label]
            group_of.append(len(groups) if pool else -1)
            if pool:
                groups.append(pool[(seed & 0xFFFF_FFFF_FFFF_FFFF) % len(pool)])
        return groups, torch.tensor(group_of, device=labels_B.device)

    def _names(self, labels: list[VerbObject], trees: list[SynonymTree], table: "_Table") -> tuple[Names, ...]:
        average = self._config.average_leaves
        return tuple(
            tuple(table.rows(label, below(tree, child), average) for child in tree.children)
            for label, tree in zip(labels, trees, strict=True)
        )

    def _shadows(
        self, ids: Sequence[int], labels: list[VerbObject], trees: list[SynonymTree], table: "_Table"
    ) -> tuple[Names, ...]:
        """Of each class; children of a negative that are children of the right verb are dropped unless kept."""
        config, pools, shadows = self._config, negatives(trees), []
        for action_id, label, tree in zip(ids, labels, trees, strict=True):
            pool = list(pools[tree.verb].items())
            if 0 < config.shadow_verbs < len(pool):
                order = words_at(range(len(pool)), "shadow verbs", self._seed, action_id).argsort(kind="stable")
                pool = [pool[place] for place in sorted(order[: config.shadow_verbs].tolist())]
            own = frozenset() if config.shared_children else frozenset(tree.children)
            words = [[word for word in below(owner, verb) if word not in own] for verb, owner in pool]
            shadows.append(tuple(table.rows(label, each, config.average_leaves) for each in words))
        return tuple(shadows)

    def _join(self, leaves: Sequence[Leaves]) -> tuple[Segments, Tensor]:
        """Leaves one after the other: how they are cut, and the row of each."""
        rows = torch.tensor([row for each in leaves for row in each], device=self.device)
        return Segments.from_lengths([len(each) for each in leaves], self.device), rows

    def _label(self, action_id: int, name: str) -> VerbObject:
        if action_id not in self._labels:
            raise UsageError(
                f"class {name!r} must be in the bank's verb_objects.parquet, but is not: `reelmill bank synonyms` "
                "makes that anew"
            )
        return self._labels[action_id]

    def _tree(self, verb: str) -> SynonymTree:
        return tree_of(verb, self._trees, first=self._config.first_order, second=self._config.second_order)


class _Table:
    """Texts, each once, and where they are."""

    def __init__(self, prompt: str) -> None:
        self._prompt, self.texts = prompt, dict[str, int]()

    def rows(self, label: VerbObject, verbs: Sequence[str], average: bool) -> Leaves:
        """The action under each of these verbs, or under the first alone, which is its name."""
        texts = [self._prompt.replace("{action}", label.text(verb)) for verb in (verbs if average else verbs[:1])]
        return tuple(self.texts.setdefault(text, len(self.texts)) for text in texts)


def _called(classes: Sequence[str], trees: Sequence[SynonymTree], verbs: Mapping[str, str]) -> list[str | None]:
    """The verb that each class is called by; None for its own."""
    strange = sorted(verbs.keys() - set(classes))
    if strange:
        raise UsageError(f"verbs must be given for classes that are evaluated, got {strange[:5]}")
    called = []
    for name, tree in zip(classes, trees, strict=True):
        verb = verbs.get(name, tree.verb)
        if verb not in tree.children:
            raise UsageError(
                f"the verb of class {name!r} must be one of {', '.join(tree.children)} (its children in "
                f"synonyms.parquet), got {verb!r}"
            )
        called.append(None if verb == tree.verb else verb)
    return called


def _say_bare(verbs: Set[str]) -> None:
    if verbs:
        some = ", ".join(sorted(verbs)[:10])
        _log.warning("%d verbs have no tree in synonyms.parquet and stand alone: %s", len(verbs), some)
