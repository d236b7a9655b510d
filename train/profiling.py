"""A trace of a few steps, by torch's profiler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from . import distributed

WARM_UP = 3
"""Steps before the trace: allocations, compilation and the first batches are not what training is like."""


@contextmanager
def tracing(steps: int, run: Path) -> Iterator[Callable[[], None]]:
    """Gives what to call after every step; after `WARM_UP` and `steps` more, RUN/trace-RANK.json is written.

    A block that ends before that writes nothing; 0 steps trace nothing.
    """
    if not steps:
        yield lambda: None
        return
    from torch.profiler import ProfilerActivity, profile, schedule

    def write(profiler: Any) -> None:
        profiler.export_chrome_trace(str(run / f"trace-{distributed.rank()}.json"))

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    when = schedule(wait=WARM_UP - 1, warmup=1, active=steps, repeat=1)
    with profile(activities=kinds, schedule=when, on_trace_ready=write) as profiler:
        yield profiler.step
