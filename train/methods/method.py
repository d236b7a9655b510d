"""What every method is: texts for its classes, outputs for videos, a loss during training and scores afterwards.

Shapes: B videos, C classes, M texts, D the width of the joint space.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..model import TextStates, VideoStates, VideoTextModel

IGNORED = -100
"""The label of a sample that does not count."""


@dataclass(frozen=True, slots=True)
class ClassTexts:
    """The texts of a list of classes; a method adds how they belong together."""

    strings: tuple[str, ...]
    """M texts, each once at most where a method reads it for several classes."""


class Targets(NamedTuple):
    """What a batch should have been, and how much of the step it is."""

    labels_B: Tensor
    """int64, the class index; `IGNORED` where the sample does not count: no label, or pixels not its own."""
    counted: Tensor
    """0-d float: the samples that count in the whole optimiser step, over all its batches and ranks; at least 1."""
    seed: int
    """Of what is drawn in this step: the same on every rank, in every batch of the step, and after a resume."""
    targets_BC: Tensor | None = None
    """(B, C) float32 of multi-label data: 1 for every label of the sample; zeros where it does not count."""
    seeds_B: Tensor | None = None
    """int64, of what is drawn for each video in this step: `model.states.video_seeds`."""
    partner_labels_B: Tensor | None = None
    """int64: the label of the video that each was mixed with; None where none was."""
    share: float = 1.0
    """Of the video itself where it was mixed, in [0, 1]."""

    def mean(self, losses_of: Callable[[Tensor], Tensor]) -> Tensor:
        """The share of this batch in the mean over the samples of the step: all batches and ranks add up to it.

        Args:
            losses_of: takes (B,) labels and gives (B,) losses, 0 for `IGNORED`.
        """
        if self.partner_labels_B is None:
            return losses_of(self.labels_B).sum() / self.counted
        # every loss is linear in its target, so that two mixed targets are two losses in their shares
        own, other = losses_of(self.labels_B).sum(), losses_of(self.partner_labels_B).sum()
        return torch.lerp(other, own, self.share) / self.counted


class Method(nn.Module, ABC):
    """One way to recognise actions by texts.

    `loss` sees one batch of a step; where it compares videos with each other, `couples_videos` lets it see the outputs
    of the whole step, over all batches and ranks, and then it may depend on nothing else that learns.
    """

    couples_videos = False
    reads_words = False
    """Whether it needs the embedding of every word."""

    def __init__(self, model: VideoTextModel) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = 0.0
        """Share of a training target that is spread evenly over all classes, in [0, 1)."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.log_scale.device

    @abstractmethod
    def describe(self, classes: Sequence[str], *, training: bool) -> Any:
        """The `ClassTexts` of these classes; in training also those that only the loss reads.

        Raises:
            UsageError: a class that the bank does not know, or a bank without the table that the method reads.
        """

    @abstractmethod
    def forward(self, video: VideoStates, texts: Any, states: TextStates) -> Tensor:
        """What a video becomes: (B, ...), one row per video, whatever other videos there are."""

    def loss(self, outputs_B: Tensor, texts: Any, states: TextStates, targets: Targets) -> dict[str, Tensor]:
        """The parts of the loss by name, 0-d each; their sum goes backward. Here: cross entropy of the scores."""
        logits_BC = self.scores(outputs_B, texts, states)
        smoothing = self.label_smoothing
        return {"classes": targets.mean(lambda labels_B: cross_entropy(logits_BC, labels_B, label_smoothing=smoothing))}

    @abstractmethod
    def scores(self, outputs_B: Tensor, texts: Any, states: TextStates) -> Tensor:
        """(B, C) logits of the classes that `texts` describe."""

    def own_state(self) -> Mapping[str, Tensor]:
        """Every weight that is not of the open_clip model."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("model.clip.")}

    def after_step(self) -> None:
        """What is mended after each step of the optimiser: the factor from scores to logits stays at or under 100."""
        with torch.no_grad():
            self.model.log_scale.clamp_(max=MAX_LOG_SCALE)


MAX_LOG_SCALE = 4.605170185988092  # log(100), as CLIP's


def cross_entropy(logits_BC: Tensor, labels_B: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """(B,) losses, 0 for `IGNORED`."""
    return functional.cross_entropy(
        logits_BC, labels_B, ignore_index=IGNORED, reduction="none", label_smoothing=label_smoothing
    )
