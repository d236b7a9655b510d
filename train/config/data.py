"""Which samples are read, as which classes, and how clips are taken from them."""

import math
from collections import Counter
from dataclasses import dataclass

from .check import check


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassesConfig:
    """Which labels are trained on and which are kept unseen. In a TOML file a string in place of a list names a file
    with one label per line.
    """

    base: tuple[str, ...] = ()
    """Labels to train on; the class index is the place in this list. Empty takes every label of the dataset that is
    not novel."""
    novel: tuple[str, ...] = ()
    """Labels that training never sees."""

    def __post_init__(self) -> None:
        for name, labels in (("classes.base", self.base), ("classes.novel", self.novel)):
            twice = [label for label, count in Counter(labels).items() if count > 1]
            check(not twice, name, "free of repeated labels", twice[:5])
        both = sorted(set(self.base) & set(self.novel))
        check(not both, "classes.novel", "without labels of classes.base", both[:5])


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """How clips are taken from the dataset; their size is the model's."""

    train_split: str = "train"
    """Split to train on; empty takes every sample."""
    eval_split: str = "test"
    """Split to evaluate on; empty takes every sample."""
    frames: int = 8
    """Frames per clip, > 0."""
    features: str | None = None
    """Name of a feature set of the dataset (`reelmill features`) whose `frames` are read in place of videos, for a
    method over frozen features; the image encoder is then not asked."""
    min_crop_area: float = 0.5
    """Smallest share of the picture that a random crop of training keeps, in (0, 1]."""
    flip: float = 0.5
    """Probability of mirroring a training clip, in [0, 1]; 0 where left and right mean something."""
    colour_jitter: float = 0.0
    """Probability that the colours of a training clip change, in [0, 1]."""
    grey: float = 0.0
    """Probability that a training clip is grey, in [0, 1]."""
    multi_label: bool = False
    """Whether the loss asks for every label of a video, where the method can."""
    mixup: float = 0.0
    """Parameter of Beta for mixing two videos of a batch pixel by pixel, >= 0; 0 for never. Mixing pairs the videos of
    a batch: it depends on how a step is cut into batches and ranks."""
    cutmix: float = 0.0
    """Parameter of Beta for putting a rectangle of another video into each, >= 0; 0 for never. With mixup, each comes
    half the time."""
    threads: int = 2
    """Decoding threads, > 0."""

    def __post_init__(self) -> None:
        check(self.frames > 0, "data.frames", "> 0", self.frames)
        named = self.features is None or not self.features.startswith(".")
        check(named, "data.features", "the name of a feature set, not the ending of members", self.features)
        check(0 < self.min_crop_area <= 1, "data.min_crop_area", "in (0, 1]", self.min_crop_area)
        for name in ("flip", "colour_jitter", "grey"):
            check(0 <= getattr(self, name) <= 1, f"data.{name}", "in [0, 1]", getattr(self, name))
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            check(value >= 0 and math.isfinite(value), f"data.{name}", ">= 0 and finite", value)
            check(not (value and self.multi_label), f"data.{name}", "0 with multi_label", value)
            check(not (value and self.features), f"data.{name}", "0 with features, which have no pixels", value)
        check(self.threads > 0, "data.threads", "> 0", self.threads)
