"""ALT, align before adapt: every region of a frame takes the text of an entity; these texts ask frames what happens.

    A[i, j] = softmax over entities of scale * cos(region_i, entity_j) + noise[i, j]                             (Eq. 4)
    aligned = (one_hot(argmax A) + A - A.detach()) @ entities                          kernels/entity_alignment  (Eq. 5)
    z = MLP(mean over time of Q),  Q = what `model/adapter.py` makes of aligned and regions                    (Eq. 6-9)
    logits = scale * cos(class, z)                                                                              (Eq. 10)

Texts never learn: entities are those of the bank as `name: description`, a class is the mean of its templates. Regions
are found by `model/regions.py`. Differs from the print by: a scale in Eq. 4 and 10, noise of its own for each region,
and the choices of `AltConfig`. The scale of Eq. 4 gets no gradient: it belongs to the logits.

Shapes: B videos, V views, T frames, N tokens of a frame, C classes, P templates, K entities, M texts, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels import align_entities
from ...shards.bank.texts import Entity
from ...shards.errors import UsageError
from ..config import AltConfig
from ..model import TextStates, VideoStates, VideoTextModel
from ..model.adapter import VideoAdapter
from ..model.text import unit
from .method import ClassTexts, Method


@dataclass(frozen=True, slots=True)
class AltTexts(ClassTexts):
    """P templates of each of C classes, class after class, then the entities."""

    classes: int
    templates: int


class Alt(Method):
    """Aligns regions with entities, and adapts what comes of it to videos."""

    def __init__(self, model: VideoTextModel, config: AltConfig, entities: Sequence[Entity]) -> None:
        """Args: `entities` of the bank, which only `align` "entities" reads.

        Raises:
            UsageError: there are none, or the heads do not divide the width of the joint space.
        """
        super().__init__(model)
        self._config = config
        self.entities = tuple(entities) if config.align == "entities" else ()
        """What regions are aligned with, by their index."""
        if config.align == "entities" and not self.entities:
            raise UsageError("the bank must have entities for method.align 'entities', but its table is empty")
        tokens = 1 if config.level == "frames" or model.regions is None else model.regions.count
        self.adapter = VideoAdapter(model.width, config, tokens=tokens)

    def describe(self, classes: Sequence[str], *, training: bool = False) -> AltTexts:
        """The templates of each class and all entities: the same whatever other classes there are."""
        templates = self._config.templates
        strings = [template.replace("{action}", name) for name in classes for template in templates]
        return AltTexts((*strings, *(entity.text for entity in self.entities)), len(classes), len(templates))

    def forward(self, video: VideoStates, texts: AltTexts, states: TextStates) -> Tensor:
        """(B, D): what happens in each video; the mean over its views, of length 1 each where scores are cosines."""
        tokens_BVTND = self._tokens(video)
        aligned, _ = self.align(video, texts, states) if self._config.align != "none" else (None, None)
        with self.model.autocast():
            video_ND = self.adapter(None if aligned is None else aligned.flatten(0, 1), tokens_BVTND.flatten(0, 1))
        cosine = self._config.similarity == "cosine"
        views_ND = unit(video_ND) if cosine else video_ND.to(tokens_BVTND.dtype)
        return views_ND.view(*tokens_BVTND.shape[:2], -1).mean(1)

    def scores(self, outputs_B: Tensor, texts: AltTexts, states: TextStates) -> Tensor:
        """(B, C): with cosines, the mean of the views' logits."""
        products_BC = outputs_B @ self._classes(texts, states).T
        return products_BC * self.model.log_scale.exp() if self._config.similarity == "cosine" else products_BC

    def align(self, video: VideoStates, texts: AltTexts, states: TextStates) -> tuple[Tensor, Tensor]:
        """The text that each token is aligned with, and which it is (Eq. 4-5).

        Without `video.seeds_B`, that is outside of training, nothing is random.

        Returns:
            (B, V, T, N, D) texts; (B, V, T, N) int64 indices into `entities`, or the classes for `align` "names".
        """
        tokens_BVTND = self._tokens(video)
        corpus_KD = self._corpus(texts, states)
        fixed = self._config.alignment_scale
        scale = self.model.log_scale.detach().exp() if fixed is None else fixed
        parts: list[Tensor] = [tokens_BVTND]
        seeds: list[Tensor | None] = [None]
        if video.seeds_B is not None and self._config.noise:  # one by one: the noise of a video is its own
            parts, seeds = list(torch.split(tokens_BVTND, 1)), list(video.seeds_B.to(self.device))
        with self.model.autocast():
            found = [
                align_entities(part.flatten(0, 3), corpus_KD, scale=scale, seed=seed)
                for part, seed in zip(parts, seeds, strict=True)
            ]
        aligned_RD, index_R = (torch.cat(column) for column in zip(*found, strict=True))
        return aligned_RD.view(tokens_BVTND.shape), index_R.view(tokens_BVTND.shape[:4])

    def _tokens(self, video: VideoStates) -> Tensor:
        """(B, V, T, N, D): the class token and the regions of each frame, or the frame alone."""
        if self._config.level == "frames":
            return video.frames_BVTD[:, :, :, None]
        assert video.regions_BVTND is not None  # AltConfig.check_inputs
        return video.regions_BVTND

    def _corpus(self, texts: AltTexts, states: TextStates) -> Tensor:
        if self._config.align == "names":
            return self._classes(texts, states).detach()
        return states.texts_MD[texts.classes * texts.templates :].detach()

    def _classes(self, texts: AltTexts, states: TextStates) -> Tensor:
        """(C, D) of length 1: the mean over the templates of each class."""
        mine_MD = states.texts_MD[: texts.classes * texts.templates]
        return unit(mine_MD.view(texts.classes, texts.templates, -1).mean(1))
