"""What a window of training steps did: loss and accuracy, and how fast it went."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..engine import ClipLoader
from ..shards.errors import ReelmillError


class Meter:
    """Gathers the steps since the last reading; tensors stay on their device until then."""

    def __init__(self, loader: ClipLoader) -> None:
        self._loader = loader
        self._restart()

    def _restart(self) -> None:
        self._losses: list[Tensor] = []
        self._right: list[Tensor] = []
        self._clips = 0
        self._start, self._stall = time.perf_counter(), self._loader.stall_seconds

    def add(self, loss: Tensor, right: Tensor, clips: int) -> None:
        """Count a step: its loss, its share of right answers (both 0-d, without gradient), its clips."""
        self._losses.append(loss)
        self._right.append(right)
        self._clips += clips

    def check(self, step: int) -> None:
        """Stop where the loss has left the numbers, before more is built on it.

        Raises:
            ReelmillError: a loss of the window is NaN or infinite.
        """
        for index, loss in enumerate(loss.item() for loss in self._losses):
            if not math.isfinite(loss):
                raise ReelmillError(
                    f"the loss must stay finite, but is {loss} at step {step - len(self._losses) + 1 + index}; lower "
                    "optimizer.lr, or take precision fp32; the last checkpoint is from before this"
                )

    def read(self, step: int) -> dict[str, float]:
        """Mean loss and accuracy, clips per second and the share of the time spent waiting for clips; starts anew.

        Raises:
            ReelmillError: a loss of the window is NaN or infinite.
        """
        self.check(step)
        seconds = time.perf_counter() - self._start
        figures = {
            "loss": torch.stack(self._losses).mean().item(),
            "train_top1": torch.stack(self._right).mean().item(),
            "samples_per_second": self._clips / seconds,
            "stall_share": (self._loader.stall_seconds - self._stall) / seconds,
        }
        self._restart()
        return figures

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of a block out of the figures."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start
