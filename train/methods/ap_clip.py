"""AP-CLIP: a class is a set of prompts; every frame looks for its prompt and every prompt for its frame.

sim(b, c) = (mean_i max_j S + mean_j max_i S) / 2 with S = frame_i · prompt_j (Eq. 4-6); frames of all views together.

Shapes: B videos, C classes, P prompts of all classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...kernels import Segments, late_interaction
from ...shards.bank import Bank
from ..config import ApClipConfig
from ..model import TextStates, VideoStates, VideoTextModel
from .method import ClassTexts, Method


@dataclass(frozen=True, slots=True)
class Prompts(ClassTexts):
    """The prompts of classes, class after class."""

    segments: Segments
    """Which of the P rows belong to which class."""


class ApClip(Method):
    """Two encoders and a score between a video and a class; nothing else is learnt."""

    def __init__(self, model: VideoTextModel, config: ApClipConfig, bank: Bank | None, *, seed: int = 0) -> None:
        """Args: `bank` holds the descriptions, None where `prompts_per_class` is 0; `seed` is of their draw."""
        super().__init__(model)
        self._config, self._bank, self._seed = config, bank, seed

    def describe(self, classes: Sequence[str], *, training: bool = False) -> Prompts:
        """The prompts of each class: the same whatever other classes there are, in training and afterwards."""
        prompts = write_prompts(classes, self._bank, self._config, seed=self._seed)
        strings = tuple(text for texts in prompts for text in texts)
        return Prompts(strings, Segments.from_lengths([len(texts) for texts in prompts], self.device))

    def forward(self, video: VideoStates, texts: Prompts, states: TextStates) -> Tensor:
        """(B, C) fp32 logits."""
        similarity_BC = late_interaction(video.frames_BLD, states.texts_MD, texts.segments)
        return similarity_BC * self.model.log_scale.exp()

    def scores(self, outputs_B: Tensor, texts: Prompts, states: TextStates) -> Tensor:
        """The outputs are the scores."""
        return outputs_B


def write_prompts(classes: Sequence[str], bank: Bank | None, config: ApClipConfig, *, seed: int) -> list[list[str]]:
    """Put the class name and each of its descriptions into words.

    Args:
        classes: class names; each must be an action of the bank.
        bank: where the descriptions are; None where `prompts_per_class` is 0.
        config: the prefix and the number of prompts.
        seed: of the draw; a class gets the same descriptions whatever other classes there are.

    Returns:
        One list of prompts per class, never empty: an action without descriptions has the prefix or its name alone.

    Raises:
        UsageError: a class is no action of the bank.
    """
    prompts = []
    for name in classes:
        prefix = config.prefix.replace("{action}", name)
        texts = [] if bank is None else bank.draw(bank.find(name).action_id, config.prompts_per_class, seed=seed)
        prompts.append([prefix + text for text in texts] or [prefix.strip() or name])
    return prompts
