"""Order → bytes → clips: deterministic batches from datasets, made ahead by threads, resumed exactly.

B videos, V views (clips x crops), T frames, C channels, H and W pixels.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from av.error import FFmpegError
from numpy.typing import NDArray

from ...shards.errors import DamageError, UsageError
from ...shards.manifest import ORDER_VERSION
from ...shards.order import Mixture
from ..errors import MediaError
from .ahead import Ahead
from .batch import Batch
from .catalog import Catalog, Sample
from .config import LoaderConfig
from .heads import Heads, Video
from .meter import Meter
from .quarantine import Quarantine
from .rows import harmless
from .sampling import Source, View, make_views
from .texts import Texts

STATE_KEYS = ("seed", "epoch", "position", "window_shards", "global_batch", "weights", "samples", "order_version")
DECODE_ERRORS = (DamageError, MediaError, FFmpegError, ValueError, IndexError)
"""What a damaged sample raises."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """One sample of a batch."""

    sample: Sample
    views: list[View]
    video: Video | None
    """None where it did not decode, and for a slot that pads the tail."""


_Job = list[Future[_Loaded]]
"""A batch that is being decoded."""


class ClipLoader:
    """Iterates clips of one or more datasets; each `iter()` gives the rest of the current epoch.

    Args:
        datasets: a dataset's folder or URL, or several that are mixed.
        config: see `LoaderConfig`.
        rank: of this process, in [0, world_size).
        world_size: processes that share a step; divides `config.global_batch`.

    Raises:
        UsageError: no dataset, no sample left after filtering, or ranks that do not divide the batch.
    """

    def __init__(
        self,
        datasets: str | Path | Sequence[str | Path],
        config: LoaderConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if world_size < 1 or config.global_batch % world_size or not 0 <= rank < world_size:
            raise UsageError(
                f"world_size must divide global_batch {config.global_batch} and exceed the rank, "
                f"got rank {rank} of {world_size}"
            )
        self.config = config
        self.meter = Meter()
        self._rank, self._world_size = rank, world_size
        self._catalog = Catalog([datasets] if isinstance(datasets, str | Path) else datasets, config)
        self.classes: tuple[str, ...] = self._catalog.classes
        sizes = self._catalog.shard_sizes
        weights = config.weights or [float(sum(shards)) for shards in sizes]
        try:
            self._order = Mixture(sizes, weights, seed=config.seed, window_shards=config.window_shards)
        except ValueError as error:
            raise UsageError(str(error)) from None
        self._starts = np.concatenate([[0], np.cumsum([sum(shards) for shards in sizes])])
        self._epoch = self._position = 0
        self._quarantine = Quarantine(config.quarantine, config.max_bad_fraction, self.meter)
        self._texts = Texts(config.bank, config.descriptions, config.seed) if config.bank is not None else None
        self._heads = Heads(config, self.meter, max_samples=config.global_batch // world_size)
        # a thread that waits for a process does nothing: others resize meanwhile
        self._pool = ThreadPoolExecutor(config.threads + config.workers, thread_name_prefix="decode")

    @property
    def samples(self) -> int:
        """Samples of one epoch, over all ranks."""
        return len(self._catalog)

    @property
    def stall_seconds(self) -> float:
        """Time that the consumer has waited for batches so far; `meter` has more."""
        return self.meter.read().stall_seconds

    def close(self) -> None:
        """End the threads and processes that decode; a loader that is garbage-collected does so by itself."""
        self._pool.shutdown(cancel_futures=True)
        self._heads.close()

    def __len__(self) -> int:
        """Steps of a whole epoch; training drops the tail, evaluation pads it."""
        full, tail = divmod(self.samples, self.config.global_batch)
        return full + bool(tail and not self.config.training)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self._epoch, self._position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands after the batches that were taken; JSON-serialisable, the same for every rank."""
        config = self.config
        weights = None if config.weights is None else list(config.weights)
        values = config.seed, self._epoch, self._position, config.window_shards, config.global_batch, weights
        return dict(zip(STATE_KEYS, (*values, self._catalog.digest, ORDER_VERSION), strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a loader of the same samples, seed and batch stood, under any world size.

        Raises:
            UsageError: the state belongs to other datasets or filters, another seed, batch, window, mixture or version
                of the order.
        """
        own = self.state_dict()
        if not isinstance(state, dict):
            raise UsageError(f"loader state must be what state_dict gave, got {type(state).__name__}")
        for name in STATE_KEYS:
            if name not in ("epoch", "position") and state.get(name) != own[name]:
                raise UsageError(f"loader state must have {name} {own[name]!r} to go on here, got {state.get(name)!r}")
        epoch, position, size = state.get("epoch"), state.get("position"), self.config.global_batch
        if not (_is_count(epoch) and _is_count(position) and position % size == 0):
            raise UsageError(
                f"loader state must have an epoch >= 0 and a position that is a multiple of {size}, "
                f"got {epoch!r} and {position!r}"
            )
        self._epoch, self._position = epoch, position

    def __iter__(self) -> Iterator[Batch]:
        """The batches from the current position to the end of the epoch, made ahead by threads."""
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(self.config.prefetch)
        stop = threading.Event()
        args = (ready, stop, self._epoch, self._position)
        producer = threading.Thread(target=self._produce, args=args, daemon=True)
        producer.start()
        given = time.monotonic()
        try:
            while True:
                asked, depth = time.monotonic(), ready.qsize()
                batch = ready.get()
                if batch is None:
                    break
                if isinstance(batch, BaseException):
                    raise batch
                now = time.monotonic()
                self.meter.took(now - given, now - asked, depth)
                given = now
                self._position += self.config.global_batch
                yield batch
            self.set_epoch(self._epoch + 1)
        finally:
            stop.set()
            producer.join()

    def _produce(
        self, ready: "queue.Queue[Batch | BaseException | None]", stop: threading.Event, epoch: int, position: int
    ) -> None:
        def put(item: Batch | BaseException | None) -> None:
            while not stop.is_set():
                with suppress(queue.Full):
                    ready.put(item, timeout=0.1)
                    return

        size = self.config.global_batch
        steps = iter(range(position, len(self) * size, size))
        jobs: deque[_Job] = deque()
        ahead = None
        if self._catalog.samples_ahead:
            positions = range(position, min(len(self) * size, self.samples))
            ahead = Ahead(self._catalog, partial(self._places, epoch), positions, self._catalog.samples_ahead)
        try:
            while not stop.is_set():
                while len(jobs) < 2 and (first := next(steps, None)) is not None:  # the pool never waits for the graph
                    jobs.append(self._begin(epoch, np.arange(first + self._rank, first + size, self._world_size)))
                if not jobs:
                    break
                put(self._finish(jobs.popleft(), epoch))
                position += size
                if ahead is not None:
                    ahead.passed(position)
            put(None)
        except BaseException as error:  # handed to the consumer, who raises it
            put(error)
        finally:
            if ahead is not None:
                ahead.stop()
            for job in jobs:
                for sample in job:
                    sample.cancel()

    def _begin(self, epoch: int, positions: NDArray[np.int64]) -> _Job:
        """Send a batch's samples to the decoding threads."""
        sources, numbers = self._places(epoch, positions % self.samples)
        counted = positions < self.samples
        slots = zip(sources.tolist(), numbers.tolist(), counted.tolist(), strict=True)
        return [self._pool.submit(self._load, epoch, *slot) for slot in slots]

    def _places(self, epoch: int, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self.config.training:
            return self._order.at(epoch, positions)
        sources = np.searchsorted(self._starts, positions, side="right") - 1
        return sources, positions - self._starts[sources]

    def _finish(self, job: _Job, epoch: int) -> Batch:
        loaded = [sample.result() for sample in job]
        decoded = self._heads.batch([each.video for each in loaded], [each.views for each in loaded])
        for i, error in decoded.errors.items():
            self._quarantine.add(loaded[i].sample, error)
        samples = [each.sample for each in loaded]
        keys = [sample.key for sample in samples]
        labels = [self._catalog.labels(sample) for sample in samples]
        actions = [_or(sample.row["action_id"], -1) for sample in samples]
        texts = None
        if self._texts is not None:
            texts = [self._texts.draw(action, epoch, key) for action, key in zip(actions, keys, strict=True)]
        return Batch(
            clips_BVTCHW=decoded.clips_BVTCHW,
            labels_B=torch.tensor([its[0] if its else -1 for its in labels]),
            targets_BC=self._targets(labels) if self.config.multi_label else None,
            texts=texts,
            action_ids_B=torch.tensor(actions),
            keys=keys,
            captions=[_or(sample.row["caption"], "") for sample in samples],
            valid_B=torch.tensor(decoded.valid),
        )

    def _targets(self, labels: Sequence[Sequence[int]]) -> torch.Tensor:
        targets_BC = torch.zeros(len(labels), len(self.classes))
        for sample, its in enumerate(labels):
            targets_BC[sample, list(its)] = 1
        return targets_BC

    def _load(self, epoch: int, source: int, number: int, counted: bool) -> _Loaded:
        sample = self._catalog.sample(source, number)
        try:
            views = self._views(sample, epoch)
        except DECODE_ERRORS as error:  # of the packet table, where times are asked of it
            sample = replace(sample, row=harmless(sample.row), error=error)
            views = make_views(replace(self.config, sampling="segments"), Source(sample.key, 1, 1.0, 1.0), epoch=epoch)
        return _Loaded(sample, views, self._decode(sample, views) if counted else None)

    def _views(self, sample: Sample, epoch: int) -> list[View]:
        row = sample.row
        wide, high = row["width"] * row["pixel_aspect"], row["height"]
        if row["rotation"] in (90, 270):
            wide, high = high, wide
        times = None
        if self.config.sampling == "seconds":
            times = np.zeros(1) if sample.error else sample.times_seconds()
        return make_views(self.config, Source(sample.key, row["frames"], wide, high, times), epoch=epoch)

    def _decode(self, sample: Sample, views: Sequence[View]) -> Video | None:
        """As far as a thread decodes it; None, and a line in the quarantine file, where the sample is damaged."""
        codec, rotation = sample.row["codec"], sample.row["rotation"]
        self.meter.sample()
        try:
            if sample.error is not None:
                raise sample.error
            data = sample.dataset.tar(sample.ref.shard).read(sample.key, sample.video)
            self.meter.payload(len(data))
            return self._heads.decode(data, sample.packets, views, codec=codec, rotation=rotation)
        except DECODE_ERRORS as error:
            self._quarantine.add(sample, error)
            return None


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
