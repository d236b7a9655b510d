"""Which samples are read, as which classes, and how clips are taken from them."""

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
    min_crop_area: float = 0.5
    """Smallest share of the picture that a random crop of training keeps, in (0, 1]."""
    flip: float = 0.5
    """Probability of mirroring a training clip, in [0, 1]; 0 where left and right mean something."""
    threads: int = 2
    """Decoding threads, > 0."""

    def __post_init__(self) -> None:
        check(self.frames > 0, "data.frames", "> 0", self.frames)
        check(0 < self.min_crop_area <= 1, "data.min_crop_area", "in (0, 1]", self.min_crop_area)
        check(0 <= self.flip <= 1, "data.flip", "in [0, 1]", self.flip)
        check(self.threads > 0, "data.threads", "> 0", self.threads)
