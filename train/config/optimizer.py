"""How the weights are moved."""

import math
from dataclasses import dataclass

from .check import check


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
        check(self.lr > 0 and math.isfinite(self.lr), "optimizer.lr", "> 0 and finite", self.lr)
        check(self.weight_decay >= 0, "optimizer.weight_decay", ">= 0", self.weight_decay)
        check(all(0 <= beta < 1 for beta in self.betas), "optimizer.betas", "in [0, 1) each", self.betas)
        check(0 <= self.warmup < 1, "optimizer.warmup", "in [0, 1)", self.warmup)
        check(0 <= self.label_smoothing < 1, "optimizer.label_smoothing", "in [0, 1)", self.label_smoothing)
