"""CoCo: a class is its definition and captions of its videos, aligned with videos over frozen encoders (ActionHub).

    v = FC(F_v), z^l = FC(F(definition)), z^c = mean_i FC(F(caption_i))                             Eq. 1-2, 5-6
    L^l, L^c = CE(v . z / tau) over the seen classes                                                Eq. 3-4, 7-9
    z = alpha z^l + (1 - alpha) z^c                                                                 Eq. 10, 17
    x^f = softmax(z^s . z^u / tau) z^u                  a seen class told by unseen ones            Eq. 11
    x^b = softmax(x^f . z^s / tau) z^s                  and back                                    Eq. 12
    L = L^l + L^c + gamma CE(v . x^b / tau)                                                         Eq. 13-15
    scores = v . z / tau                                                                            Eq. 16

Eq. 3 prints p_ij for p_ik in its denominator, which would make it log C, whatever is learnt; it and Eq. 13 print a sum
over videos, here it is the mean. Lengths are not spoken of: `cosine`, `normalize_captions` and `cim.normalize` say what
is brought to length 1. z itself, a mixture, is not. F_v is the mean of the frames' embeddings.

Shapes: B videos, C seen classes, U unseen ones, M texts, D width of the encoders' space, W of CoCo's.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...kernels import Segments
from ...shards.errors import UsageError
from ..config import CocoConfig
from ..model import TextStates, VideoStates, VideoTextModel
from ..model.text import unit
from .coco_texts import CocoSources, choose_captions, tell_definition
from .counter import uniform
from .method import ClassTexts, Method, Targets, cross_entropy

_log = logging.getLogger("reelmill.train")


@dataclass(frozen=True, slots=True)
class Described(ClassTexts):
    """Definitions of all classes, then captions class by class; seen classes first."""

    definitions: int
    """How many definitions there are: one per class, or none."""
    captions: Segments | None
    """Which captions belong to which class; None where classes have none."""
    seen: int
    """C: the classes that are told apart; those that follow are only read by the cycle."""
    unseen: int
    """U."""


class Coco(Method):
    """Linear layers over two encoders."""

    def __init__(self, model: VideoTextModel, config: CocoConfig, sources: CocoSources, *, video_width: int) -> None:
        """Args: `video_width` is the width of the frames' features; those of texts have the encoders' width."""
        super().__init__(model)
        model.log_scale.requires_grad_(False)  # tau is fixed
        self._config, self._sources = config, sources
        self.video_layer = nn.Linear(video_width, config.width)
        names = ("texts",) if config.share_text_layer else ("definitions", "captions")
        self.text_layers = nn.ModuleDict({name: nn.Linear(model.width, config.width) for name in names})

    def describe(self, classes: Sequence[str], *, training: bool = False) -> Described:
        """The texts of each class, in training also those of `cim.unseen_texts`.

        Raises:
            UsageError: a class is no action of the bank or lacks a text; a class is trained on and called unseen.
        """
        config, sources = self._config, self._sources
        unseen = config.cim.unseen_texts if training else ()
        both = sorted(set(classes) & set(unseen))
        if both:
            raise UsageError(f"method.cim.unseen_texts must be without classes that are trained on, got {both[:5]}")
        if unseen:
            _log.warning(
                "training reads the texts of %d unseen classes (method.cim.unseen_texts): report its results as "
                "transductive in text",
                len(unseen),
            )
        named = (*classes, *unseen)
        definitions, captions = list[str](), list[list[str]]()
        if config.describe_by != "captions":
            definitions = [tell_definition(name, sources, config) for name in named]
        if config.describe_by != "definitions":
            captions = [choose_captions(name, sources, config) for name in named]
        segments = Segments.from_lengths([len(texts) for texts in captions], self.device) if captions else None
        strings = (*definitions, *(text for texts in captions for text in texts))
        return Described(strings, len(definitions), segments, len(classes), len(unseen))

    def forward(self, video: VideoStates, texts: Described, states: TextStates) -> Tensor:
        """(B, W): v of Eq. 1."""
        return self._measured(self.video_layer(video.frames_BLD.mean(dim=1)))

    def scores(self, outputs_B: Tensor, texts: Described, states: TextStates) -> Tensor:
        """(B, C) of Eq. 16, over tau."""
        return self._logits(outputs_B, self._fuse(self._sides(texts, states))[: texts.seen])

    def loss(self, outputs_B: Tensor, texts: Described, states: TextStates, targets: Targets) -> dict[str, Tensor]:
        """Eq. 9 by its parts, and the cycle with its weight where there are unseen texts (Eq. 15)."""
        sides = self._sides(texts, states, drop_seed=targets.seed)
        losses = {name: self._align(outputs_B, side[: texts.seen], targets) for name, side in sides.items()}
        if texts.unseen:
            fused = self._fuse(sides)
            cycled_CW = self._cycle(fused[: texts.seen], fused[texts.seen :])
            losses["cycle"] = self._config.cim.weight * self._align(outputs_B, cycled_CW, targets)
        return losses

    def _align(self, video_BW: Tensor, classes_CW: Tensor, targets: Targets) -> Tensor:
        logits_BC = self._logits(video_BW, classes_CW)
        return targets.mean(lambda labels_B: cross_entropy(logits_BC, labels_B, label_smoothing=self.label_smoothing))

    def _logits(self, video_BW: Tensor, classes_CW: Tensor) -> Tensor:
        return video_BW @ classes_CW.T / self._config.tau

    def _cycle(self, seen_CW: Tensor, unseen_UW: Tensor) -> Tensor:
        """x^b of Eq. 11-12."""
        there_CW = self._told_by(seen_CW, unseen_UW)
        return self._told_by(there_CW, seen_CW)

    def _told_by(self, classes_CW: Tensor, others_UW: Tensor) -> Tensor:
        mixed_CW = (classes_CW @ others_UW.T / self._config.tau).softmax(dim=1) @ others_UW
        return unit(mixed_CW) if self._config.cim.normalize else mixed_CW

    def _fuse(self, sides: dict[str, Tensor]) -> Tensor:
        """The mixture of Eq. 10; what there is where classes are described by one kind of text."""
        if len(sides) == 1:
            return next(iter(sides.values()))
        alpha = self._config.alpha
        return alpha * sides["definitions"] + (1 - alpha) * sides["captions"]

    def _sides(self, texts: Described, states: TextStates, *, drop_seed: int | None = None) -> dict[str, Tensor]:
        """z^l and z^c, (C + U, W) each, those that classes are described by; with dropout where it has a seed."""
        config, features_MD = self._config, states.texts_MD
        if drop_seed is not None and config.text_dropout > 0:
            drawn_MD = uniform(tuple(features_MD.shape), seed=drop_seed, device=features_MD.device)
            features_MD = features_MD * (drawn_MD >= config.text_dropout) / (1 - config.text_dropout)
        sides = {}
        if texts.definitions:
            sides["definitions"] = self._measured(self._layer("definitions")(features_MD[: texts.definitions]))
        if texts.captions is not None:
            captions_RD = features_MD[texts.definitions :]
            sides["captions"] = self._measured(self._content(captions_RD, texts.captions))
        return sides

    def _content(self, captions_RD: Tensor, segments: Segments) -> Tensor:
        """Eq. 5-6. A mean through the layer is the mean of what went through it, and one row per class, not k."""
        layer = self._layer("captions")
        if self._config.normalize_captions:
            return _mean(unit(layer(captions_RD)), segments)
        return layer(_mean(captions_RD, segments))  # type: ignore[no-any-return]

    def _measured(self, rows: Tensor) -> Tensor:
        return unit(rows) if self._config.cosine else rows

    def _layer(self, name: str) -> nn.Module:
        return self.text_layers["texts" if self._config.share_text_layer else name]


def _mean(rows_RD: Tensor, segments: Segments) -> Tensor:
    """(C, D): the mean of the rows of each class."""
    lengths_C = segments.offsets.diff()
    return torch.segment_reduce(rows_RD, "mean", lengths=lengths_C, unsafe=True)
