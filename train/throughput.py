"""What a window of training steps did: losses and accuracy, and how fast it went."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..engine import ClipLoader
from ..shards.errors import ReelmillError
from . import distributed
from .step import Result


class Meter:
    """Gathers the steps since the last reading; tensors stay on their device until then. Every rank reads together."""

    def __init__(self, loader: ClipLoader, *, flops: int, peak_tflops: float | None) -> None:
        """Of steps of `flops` each; `peak_tflops` is what all ranks' devices could do per second, None if not known."""
        self._loader, self._flops, self._peak = loader, flops, peak_tflops
        self._frames = loader.config.frames
        self._restart()

    def _restart(self) -> None:
        self._results: list[Result] = []
        self._clips = 0
        self._start, self._stall = time.perf_counter(), self._loader.stall_seconds

    def add(self, result: Result, clips: int) -> None:
        """Count a step and its clips, over all ranks."""
        self._results.append(result)
        self._clips += clips

    def check(self, step: int) -> None:
        """Stop where a loss has left the numbers, before more is built on it.

        Raises:
            ReelmillError: a loss of the window is NaN or infinite; names it.
        """
        self._losses(step)

    def read(self, step: int) -> dict[str, float]:
        """Mean losses and accuracy, speed, and the share of the time spent waiting for clips; starts anew.

        Raises:
            ReelmillError: a loss of the window is NaN or infinite.
        """
        losses_SN = self._losses(step)
        names = list(self._results[0].losses)
        parts = dict(zip((f"loss_{name}" for name in names), losses_SN.mean(0).tolist(), strict=True))
        right = distributed.total(torch.stack([result.right for result in self._results]).sum())
        counted = torch.stack([result.counted for result in self._results]).sum()
        seconds = time.perf_counter() - self._start
        figures = {
            "loss": losses_SN.sum(1).mean().item(),
            **(parts if len(parts) > 1 else {}),
            "train_top1": (right / counted.clamp(min=1)).item(),
            "samples_per_second": self._clips / seconds,
            "frames_per_second": self._clips * self._frames / seconds,
            "tflops": (tflops := self._flops * len(self._results) / seconds / 1e12),
            **({"mfu": tflops / self._peak} if self._peak else {}),
            **_memory(),
            "stall_share": (self._loader.stall_seconds - self._stall) / seconds,
        }
        self._restart()
        return figures

    def _losses(self, step: int) -> Tensor:
        """(steps, losses) of the window, over all ranks."""
        if not self._results:
            return torch.zeros(0, 1)
        names = list(self._results[0].losses)
        rows = [torch.stack([result.losses[name] for name in names]) for result in self._results]
        losses_SN = distributed.total(torch.stack(rows)).cpu()
        for index, row in enumerate(losses_SN.tolist()):
            for name, loss in zip(names, row, strict=True):
                if not math.isfinite(loss):
                    at = step - len(rows) + 1 + index
                    raise ReelmillError(
                        f"the loss must stay finite, but its part {name!r} is {loss} at step {at}; lower optimizer.lr, "
                        "or take precision fp32; the last checkpoint is from before this"
                    )
        return losses_SN

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of a block out of the figures."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start


def _memory() -> dict[str, float]:
    """The most memory that torch has taken on the GPU, in GB; nothing on a CPU."""
    return {"peak_gb": torch.cuda.max_memory_allocated() / 1e9} if torch.cuda.is_initialized() else {}  # type: ignore[no-untyped-call]
