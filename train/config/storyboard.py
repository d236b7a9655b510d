"""The options of Storyboard."""

import math
from dataclasses import dataclass
from typing import Literal

from .check import check


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryboardConfig:
    """Storyboard (SFAR): every class weighs the frames of a video, by its name and by the steps that it is made of, and
    is scored against what it made of them. The defaults are what the equations of the paper mean; those that are as
    printed say so.
    """

    name: Literal["storyboard"] = "storyboard"
    """The method."""
    prompt: str = "a photo of a {action}"
    """The text of a class; {action} is its name."""
    branches: Literal["both", "coarse", "fine", "global"] = "both"
    """How a video is summed up for a class: by the words of its text, mixed with those of its steps (coarse, Eq. 5-9),
    by its steps (fine, Eq. 10-11), by both (Eq. 12); or, with global, by the mean of the frames, the same for all
    classes: then no bank is read (Table 5, the baselines)."""
    temporal_layers: int = 6
    """Layers of the transformer over the frames of a view, >= 0; it begins as nothing."""
    max_frames: int = 64
    """Frames of a view for which that transformer has places, > 0."""
    heads: int = 8
    """Of that transformer and of the attention from words to steps; must divide the width of the joint space."""
    tau: float = 0.01
    """Temperature of the frame weights, > 0. Eq. 8 and 10 print none, that is 1: then all frames weigh nearly the same
    (cosines of 0.19 and 0.30 differ by 12 %). 0.01 is that of BIKE, from which the paper goes on."""
    denominator: Literal["exponentials", "printed"] = "exponentials"
    """What Eq. 8 divides by: the sum of exponentials over the frames, or, as printed, of bare cosines."""
    words: Literal["mean", "sum"] = "mean"
    """How the words of a class share the weights of its frames; Eq. 8 prints the sum."""
    count: Literal["words", "all"] = "words"
    """What counts as a word: words, or every position, start, end and padding too, as in BIKE's code. Then a class
    depends on how long the texts of the others are."""
    feedforward: bool = True
    """Put what the branches made of the frames through a layer each (Eq. 12); false adds it up as it is."""
    t2v_weight: float = 1.0
    """Of the loss from texts to videos (Eq. 13), >= 0. It compares all videos of a step, so that each batch that
    accumulates is computed twice; 0 leaves it out."""
    v2t_weight: float = 1.0
    """Of the loss from videos to texts (Eq. 14), >= 0: lambda, of which the paper does not say how much it is."""
    class_chunk: int = 512
    """Classes for which videos are summed up at a time in training, > 0; of more, each chunk is computed again on the
    way back, and memory stays that of one."""
    preselect: int = 0
    """In evaluation, put only so many classes per video through the layers of Eq. 12, those that score best without;
    the others come behind them in the order of these scores. 0 takes all, which mean average precision needs."""

    def __post_init__(self) -> None:
        check(self.prompt.count("{action}") == 1, "method.prompt", "a text with {action} in it once", self.prompt)
        for name in ("max_frames", "heads", "class_chunk"):
            check(getattr(self, name) > 0, f"method.{name}", "> 0", getattr(self, name))
        for name in ("temporal_layers", "preselect"):
            check(getattr(self, name) >= 0, f"method.{name}", ">= 0", getattr(self, name))
        check(0 < self.tau < math.inf, "method.tau", "> 0 and finite", self.tau)
        for name in ("t2v_weight", "v2t_weight"):
            check(0 <= getattr(self, name) < math.inf, f"method.{name}", ">= 0 and finite", getattr(self, name))
        weights = self.t2v_weight, self.v2t_weight
        check(max(weights) > 0, "method.t2v_weight and method.v2t_weight", "above 0, one of them at least", weights)
