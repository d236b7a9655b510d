"""The training loop: batches in, optimiser steps, figures and checkpoints out."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ..console import progress
from ..engine import Batch, ClipLoader
from ..shards.errors import ReelmillError
from . import checkpoint, distributed
from .config import TrainConfig
from .flops import peak_tflops
from .methods import Method
from .optimizer import Average, learning_rate, make_optimizer, set_rate
from .profiling import tracing
from .run_log import RunLog
from .step import Result, Step
from .throughput import Meter


class Stopped(ReelmillError):
    """The process was asked to end; a checkpoint was written first."""


class Trainer:
    """A method on its way through the steps of a run."""

    def __init__(
        self, config: TrainConfig, method: Method, classes: tuple[str, ...], loader: ClipLoader, *, total: int
    ) -> None:
        """Prepare `total` steps over `loader`, whose class indices are the places in `classes`."""
        self.config, self.method, self.loader, self.total = config, method, loader, total
        self.step = 0
        self._step = Step(method, classes, config)
        rule = config.optimizer
        method.label_smoothing = rule.label_smoothing
        self.optimizer = make_optimizer(method, rule)
        self.average = Average(method.named_parameters(), rule.average) if rule.average else None

    def resume(self) -> None:
        """Go on from the newest checkpoint of the run, if there is one."""
        path = checkpoint.latest(self.config.out)
        if path is not None:
            self.step, loader_state = checkpoint.restore(path, self.method, self.optimizer, self.average)
            self.loader.load_state_dict(loader_state)

    def fit(self, log: RunLog, validate: Callable[[], dict[str, float]], *, until: int | None = None) -> None:
        """Train up to step `until` (default: the end of the run) and write a checkpoint there.

        Args:
            log: takes a row every `log_every` steps.
            validate: called every `eval_every` steps; its figures go into the log.
            until: at most the total.

        Raises:
            ReelmillError: the loss is no longer finite.
            Stopped: SIGTERM came; a checkpoint was written.
        """
        config, end = self.config, self.total if until is None else until
        meter, batches = None, self._batches()
        tracer = tracing(config.profile, config.out)
        with progress(end - self.step, "train", "step") as bar, _sigterm() as asked_to_stop, tracer as traced:
            while self.step < end:
                batch = next(batches)
                meter = meter or self._meter(batch)
                meter.add(self._train_step(batch), config.global_batch)
                traced()
                last = self.step == end or _any_rank(asked_to_stop.is_set())
                shown = {}
                if last or self.step % config.log_every == 0:
                    row = meter.read(self.step) | self._place()
                    log.write(self.step, **row)
                    shown = {name: f"{row[name]:.3g}" for name in ("loss", "samples_per_second")}
                if config.eval_every and self.step % config.eval_every == 0:
                    with meter.paused(), self._averaged():
                        log.write(self.step, **validate())
                if last or self.step % config.checkpoint_every == 0:
                    meter.check(self.step)
                    position = checkpoint.Position(self.step, self.loader.state_dict())
                    parts = self.method, self.optimizer, self.average
                    checkpoint.save(config.out, *parts, position, keep=config.keep_checkpoints)
                bar.update(1, **shown)
                if last and self.step < end:
                    raise Stopped(f"stopped by SIGTERM at step {self.step}; the same command goes on from there")

    def _meter(self, batch: Batch) -> Meter:
        peak = peak_tflops(self.method.device, self.config.precision)
        whole = None if peak is None else peak * distributed.world_size()
        return Meter(self.loader, flops=self._step.flops(batch), peak_tflops=whole)

    def _train_step(self, batch: Batch) -> Result:
        rule = self.config.optimizer
        set_rate(self.optimizer, learning_rate(self.step, self.total, rule))
        self.optimizer.zero_grad()
        result = self._step(batch, self.step)
        if rule.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), rule.clip_norm)
        self.optimizer.step()
        self.method.after_step()
        if self.average is not None:
            self.average.update()
        self.step += 1
        return result

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in the place of the last, where there is an average."""
        if self.average is None:
            yield
            return
        self.average.swap()
        try:
            yield
        finally:
            self.average.swap()

    def _place(self) -> dict[str, float]:
        rate = learning_rate(self.step - 1, self.total, self.config.optimizer)
        return {"epoch": self.step / len(self.loader), "lr": rate}

    def _batches(self) -> Iterator[Batch]:
        while True:
            yield from self.loader


def _any_rank(asked: bool) -> bool:
    """Whether a rank was asked to stop: then all of them do, at the same step."""
    return bool(distributed.total(torch.tensor(float(asked)))) if distributed.world_size() > 1 else asked


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """Set an event on SIGTERM instead of dying; only the main thread of a process can be asked."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
