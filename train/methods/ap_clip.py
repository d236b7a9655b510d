"""AP-CLIP: a class is a set of prompts; every frame looks for its prompt and every prompt for its frame.

sim(b, c) = (mean_i max_j S + mean_j max_i S) / 2 with S = frame_i · prompt_j (Eq. 4-6); frames of all views together.

Shapes: B videos, V views, T frames, C H W a picture; C classes, P prompts of all classes, W tokens; D width.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...kernels import Segments, late_interaction
from ...shards.bank import Bank
from ..config import ApClipConfig
from ..model import VideoTextModel

MAX_LOG_SCALE = math.log(100)


class Prompts(NamedTuple):
    """The prompts of a list of classes, ready for the text encoder."""

    tokens_PW: Tensor
    segments: Segments
    """Which of the P rows belong to which class."""


def open_bank(config: ApClipConfig, path: str) -> Bank | None:
    """The bank at `path`; None where no descriptions are drawn."""
    return Bank.open(path) if config.prompts_per_class else None


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


class ApClip(nn.Module):
    """Two encoders and a score between a video and a class; nothing else is learnt."""

    def __init__(self, model: VideoTextModel) -> None:
        super().__init__()
        self.model = model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.log_scale.device

    def tokenize(self, prompts: Sequence[Sequence[str]]) -> Prompts:
        """The prompts of C classes, each class with one or more, as tokens on the device of the model."""
        tokens_PW = self.model.tokenize([text for texts in prompts for text in texts])
        segments = Segments.from_lengths([len(texts) for texts in prompts], self.device)
        return Prompts(tokens_PW.to(self.device), segments)

    def forward(self, clips_BVTCHW: Tensor, prompts: Prompts) -> Tensor:
        """(B, V, T, 3, H, W) clips and the prompts of C classes → (B, C) fp32 logits; both encoders get gradients."""
        return self.score(clips_BVTCHW, self.model.encode_text(prompts.tokens_PW), prompts.segments)

    def score(self, clips_BVTCHW: Tensor, text_PD: Tensor, segments: Segments) -> Tensor:
        """Like `forward`, with the prompts already encoded: in evaluation they are encoded once."""
        video_BVD = self.model.encode_video(clips_BVTCHW).flatten(1, 2)
        return late_interaction(video_BVD, text_PD, segments) * self.model.log_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the factor from scores to logits at or under 100; called after every optimiser step, as CLIP does."""
        self.model.log_scale.clamp_(max=MAX_LOG_SCALE)
