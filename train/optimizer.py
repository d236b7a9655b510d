"""Which weights move at which rate: groups, schedules, clipping, and the moving average of the weights."""

import math
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from .config import OptimizerConfig
from .methods import Method


def learning_rate(step: int, total: int, config: OptimizerConfig) -> float:
    """The rate of step `step` (from 0) of `total`: linear warm-up, then down to a hundredth, or constant."""
    warmup = round(total * config.warmup)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    falls = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}
    return config.lr * (0.01 + 0.99 * falls[config.schedule])


def make_optimizer(method: Method, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser of a method's weights that learn; each of its groups has its rate, relative to `config.lr`."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    text = {id(weight) for weight in method.model.text.parameters()}
    blocks = len(getattr(getattr(method.model.clip.visual, "transformer", None), "resblocks", ()))
    for name, weight in method.named_parameters():
        if weight.requires_grad:
            times = _times(name, id(weight) in text, blocks, config)
            decay = 0.0 if config.decay == "matrices" and weight.dim() < 2 else config.weight_decay
            groups.setdefault((times, decay), []).append(weight)
    made = [
        {"params": weights, "times": times, "weight_decay": decay} for (times, decay), weights in sorted(groups.items())
    ]
    if config.kind == "sgd":
        return torch.optim.SGD(made, lr=config.lr, momentum=config.momentum)
    kind = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
    return kind(made, lr=config.lr, betas=config.betas, fused=True)


def _times(name: str, is_text: bool, blocks: int, config: OptimizerConfig) -> float:
    """The rate of a weight as a multiple of the rate of the step."""
    if not name.startswith("model."):
        return (config.own_lr or config.lr) / config.lr
    if is_text:
        return (config.text_lr or config.lr) / config.lr
    if ".visual." not in name or config.layer_decay == 1:
        return 1.0
    block = re.search(r"\.resblocks\.(\d+)\.", name)
    after = any(part in name for part in (".ln_post", ".visual.proj", ".head."))
    depth = int(block[1]) + 1 if block else (blocks + 1 if after else 0)
    return float(config.layer_decay ** (blocks + 1 - depth))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["times"]


class Average:
    """An exponential moving average of weights, in fp32: `average = decay * average + (1 - decay) * weight`."""

    def __init__(self, weights: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        self._decay = decay
        self._weights = {name: weight for name, weight in weights if weight.requires_grad}
        self.values: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in self._weights.items()}
        """The average by the name of the weight."""

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights in, after a step."""
        torch._foreach_lerp_(list(self.values.values()), list(self._weights.values()), 1 - self._decay)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint's average."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the weights: call it before an evaluation and again after it."""
        for name, weight in self._weights.items():
            kept = weight.detach().clone()
            weight.copy_(self.values[name])
            self.values[name].copy_(kept)
