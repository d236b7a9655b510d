"""What a training run and an evaluation are asked to do: dataclasses that check themselves."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..shards.errors import UsageError

Precision = Literal["fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda"]
ProtocolName = Literal["base-novel", "closed-set"]
Given = Literal["none", "first-word", "last-word"]

LOCATION = {"location": "always"}
"""Metadata of a field that names a file or folder: in a TOML file it is relative to that file's folder."""
LOCATION_OR_NAME = {"location": "if it is a file"}
"""Metadata of a field that may also hold a name: a path where there is such a file."""


def _check(ok: bool, name: str, must: str, came: Any) -> None:
    if not ok:
        raise UsageError(f"{name} must be {must}, got {came!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The two encoders."""

    name: str = field(default="reelmill-tiny", metadata=LOCATION_OR_NAME)
    """Name of an open_clip model (reelmill-tiny is ours), or the path of an open_clip config that ends in .json."""
    pretrained: str | None = field(default=None, metadata=LOCATION_OR_NAME)
    """A file of weights or a tag that open_clip knows (then it downloads); without it the weights are random."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApClipConfig:
    """AP-CLIP: every class is a set of prompts made of its name and descriptions out of the bank."""

    prefix: str = "a video of {action}. "
    """What every prompt begins with; {action} is the class name. Empty where the descriptions say it all: a name that
    was never trained on only disturbs a text encoder with random weights."""
    prompts_per_class: int = 8
    """Descriptions drawn from the bank per class, once per run, all of them where there are fewer; 0 reads no bank and
    describes a class by the prefix alone."""

    def __post_init__(self) -> None:
        once = self.prefix.count("{action}") <= 1
        _check(once, "method.prefix", "a text with {action} in it once at most", self.prefix)
        _check(self.prompts_per_class >= 0, "method.prompts_per_class", ">= 0", self.prompts_per_class)


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
            _check(not twice, name, "free of repeated labels", twice[:5])
        both = sorted(set(self.base) & set(self.novel))
        _check(not both, "classes.novel", "without labels of classes.base", both[:5])


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
        _check(self.frames > 0, "data.frames", "> 0", self.frames)
        _check(0 < self.min_crop_area <= 1, "data.min_crop_area", "in (0, 1]", self.min_crop_area)
        _check(0 <= self.flip <= 1, "data.flip", "in [0, 1]", self.flip)
        _check(self.threads > 0, "data.threads", "> 0", self.threads)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW over all parameters, linear warm-up, then a cosine down to a hundredth of the rate."""

    lr: float = 8e-6
    """Highest learning rate, > 0; the default is for fine-tuning CLIP, training from random weights wants 1e-3."""
    weight_decay: float = 0.001
    """Decoupled weight decay, >= 0."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay rates of the two moments, each in [0, 1)."""
    warmup: float = 0.1
    """Share of all steps in which the rate rises, in [0, 1)."""
    label_smoothing: float = 0.1
    """Share of the target spread over all classes, in [0, 1)."""

    def __post_init__(self) -> None:
        _check(self.lr > 0 and math.isfinite(self.lr), "optimizer.lr", "> 0 and finite", self.lr)
        _check(self.weight_decay >= 0, "optimizer.weight_decay", ">= 0", self.weight_decay)
        _check(all(0 <= beta < 1 for beta in self.betas), "optimizer.betas", "in [0, 1) each", self.betas)
        _check(0 <= self.warmup < 1, "optimizer.warmup", "in [0, 1)", self.warmup)
        _check(0 <= self.label_smoothing < 1, "optimizer.label_smoothing", "in [0, 1)", self.label_smoothing)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run: AP-CLIP over one dataset."""

    dataset: str = field(metadata=LOCATION)
    """The dataset's folder."""
    out: Path = field(metadata=LOCATION)
    """The run's folder: config.json, metrics.jsonl, tensorboard/, checkpoints/, quarantine.jsonl."""
    bank: str | None = field(default=None, metadata=LOCATION)
    """Folder of the description bank; without it the dataset's own."""
    model: ModelConfig = ModelConfig()
    """The two encoders."""
    method: ApClipConfig = ApClipConfig()
    """How classes become prompts."""
    classes: ClassesConfig = ClassesConfig()
    """What is base and what is novel."""
    data: DataConfig = DataConfig()
    """How clips are taken."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How the weights are moved."""
    epochs: int = 10
    """Passes over the training split, > 0; not read where `steps` is given."""
    steps: int | None = None
    """Optimiser steps of the whole run, > 0."""
    global_batch: int = 64
    """Clips per optimiser step, > 0."""
    seed: int = 0
    """Of the initial weights, the order of samples, the augmentation and the draw of descriptions."""
    precision: Precision = "fp32"
    """Arithmetic of the encoders; weights, embeddings' norms, scores and loss stay fp32."""
    device: Device = "auto"
    """auto takes a GPU where there is one."""
    threads: int = 0
    """CPU threads of torch; 0 leaves torch's own choice."""
    log_every: int = 10
    """Steps between two rows of metrics.jsonl, > 0."""
    eval_every: int = 0
    """Steps between two evaluations on the base classes during training; 0 for none."""
    checkpoint_every: int = 200
    """Steps between two checkpoints, > 0; the last step always makes one."""
    keep_checkpoints: int = 2
    """Newest checkpoints that are kept, > 0."""
    resume: bool = True
    """Go on with an unfinished run of the same config in `out`, exactly; --no-resume starts over."""

    def __post_init__(self) -> None:
        for name in ("epochs", "global_batch", "log_every", "checkpoint_every", "keep_checkpoints"):
            _check(getattr(self, name) > 0, name, "> 0", getattr(self, name))
        _check(self.steps is None or self.steps > 0, "steps", "> 0", self.steps)
        for name in ("seed", "threads", "eval_every"):
            _check(getattr(self, name) >= 0, name, ">= 0", getattr(self, name))


NOT_PART_OF_A_RUN = frozenset(
    {"out", "device", "threads", "log_every", "eval_every", "checkpoint_every", "keep_checkpoints", "resume"}
)
"""Fields of TrainConfig that may change when a run is resumed: they do not change what is learnt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """One evaluation of a run's newest checkpoint."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    protocol: ProtocolName = "base-novel"
    """base-novel: base and novel classes, each among their own, and the harmonic mean; closed-set: the base classes."""
    given: Given = "none"
    """Also measure the accuracy among the classes that share this word with the right one: last-word of "push cup" asks
    for the verb where the noun is given."""
    dataset: str | None = None
    """Folder of the dataset to evaluate on; without it the one that was trained on."""
    split: str | None = None
    """Split to evaluate on, empty for every sample; without it the run's `data.eval_split`."""
    clips: int = 1
    """Clips per video, spread evenly in time, > 0."""
    crops: Literal[1, 3] = 1
    """Crops per clip: the centre, or left, centre and right."""
    batch: int = 64
    """Videos per forward pass, > 0."""
    device: Device = "auto"
    """auto takes a GPU where there is one."""
    threads: int = 0
    """CPU threads of torch; 0 leaves torch's own choice."""

    def __post_init__(self) -> None:
        _check(self.clips > 0, "clips", "> 0", self.clips)
        _check(self.batch > 0, "batch", "> 0", self.batch)
        _check(self.threads >= 0, "threads", ">= 0", self.threads)
