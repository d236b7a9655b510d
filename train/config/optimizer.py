"""How the weights are moved."""

import math
from dataclasses import dataclass
from typing import Literal

from .check import check


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """An optimiser over every weight that learns, linear warm-up, then down to a hundredth of the rate."""

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    """adamw decouples the weight decay, adam adds it to the gradient; sgd has momentum."""
    lr: float = 8e-6
    """Highest learning rate, > 0; the default is for fine-tuning CLIP, training from random weights wants 1e-3."""
    own_lr: float | None = None
    """Highest rate of the weights that the method adds to the encoders, > 0; without it `lr`."""
    text_lr: float | None = None
    """Highest rate of the text encoder, > 0; without it `lr`."""
    layer_decay: float = 1.0
    """What the rate of the image encoder shrinks by from one block to the one before it, in (0, 1]."""
    weight_decay: float = 0.001
    """Weight decay, >= 0."""
    decay: Literal["all", "matrices"] = "all"
    """What decays: every weight, or those of two dimensions and more: no biases and norms."""
    momentum: float = 0.9
    """Of sgd, in [0, 1)."""
    clip_norm: float | None = None
    """The gradient of a step is shortened to this length at most, > 0; without it it is left as it is."""
    average: float = 0.0
    """Decay of a moving average of the weights, in [0, 1): evaluations and the exported weights take it; 0 for none."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay rates of the two moments, each in [0, 1)."""
    warmup: float = 0.1
    """Share of all steps in which the rate rises, in [0, 1)."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after that."""
    label_smoothing: float = 0.1
    """Share of the target spread over all classes, in [0, 1)."""

    def __post_init__(self) -> None:
        check(self.lr > 0 and math.isfinite(self.lr), "optimizer.lr", "> 0 and finite", self.lr)
        for name in ("own_lr", "text_lr", "clip_norm"):
            value = getattr(self, name)
            check(value is None or (value > 0 and math.isfinite(value)), f"optimizer.{name}", "> 0 and finite", value)
        check(0 < self.layer_decay <= 1, "optimizer.layer_decay", "in (0, 1]", self.layer_decay)
        for name in ("momentum", "average"):
            check(0 <= getattr(self, name) < 1, f"optimizer.{name}", "in [0, 1)", getattr(self, name))
        check(self.weight_decay >= 0, "optimizer.weight_decay", ">= 0", self.weight_decay)
        check(all(0 <= beta < 1 for beta in self.betas), "optimizer.betas", "in [0, 1) each", self.betas)
        check(0 <= self.warmup < 1, "optimizer.warmup", "in [0, 1)", self.warmup)
        check(0 <= self.label_smoothing < 1, "optimizer.label_smoothing", "in [0, 1)", self.label_smoothing)
