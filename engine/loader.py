"""Order → bytes → clips: deterministic batches from a dataset, made ahead by a thread, resumed exactly.

B videos, V views (clips x crops), T frames, C channels, H and W pixels.
"""

import json
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from av.error import FFmpegError
from numpy.typing import NDArray

from ..shards.errors import DamageError, ReelmillError, UsageError
from ..shards.manifest import ORDER_VERSION
from ..shards.order import EpochOrder
from ..shards.reader import Dataset, SampleRef, members_of
from .config import LoaderConfig
from .decode import AugmentGraph, decode_frames
from .sampling import View, make_views

COLUMNS = ["key", "members", "labels", "action_id", "split", "caption", "frames", "width", "height"]
COLUMNS += ["pixel_aspect", "rotation", "codec"]
STATE_KEYS = ("seed", "epoch", "position", "window_shards", "global_batch", "dataset", "order_version")


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's share of a step."""

    clips_BVTCHW: torch.Tensor
    """float32, normalised."""
    labels_B: torch.Tensor
    """int64, the place of the sample's label in `ClipLoader.classes`; -1 where it has none."""
    action_ids_B: torch.Tensor
    """int64, -1 where the sample has none."""
    keys: list[str]
    captions: list[str]
    valid_B: torch.Tensor
    """bool; False where the pixels are a neighbour's (the sample did not decode) or the slot pads the tail."""


@dataclass(frozen=True, slots=True)
class _Sample:
    key: str
    ref: SampleRef
    label: int
    row: dict[str, Any]


class ClipLoader:
    """Iterates a dataset's clips; each `iter()` gives the rest of the current epoch.

    Args:
        dataset: a dataset folder.
        config: see `LoaderConfig`.
        rank: of this process, in [0, world_size).
        world_size: processes that share a step; divides `config.global_batch`.

    Raises:
        UsageError: no dataset, no sample left after filtering, or ranks that do not divide the batch.
    """

    def __init__(self, dataset: str | Path, config: LoaderConfig, *, rank: int = 0, world_size: int = 1) -> None:
        if config.global_batch % world_size or not 0 <= rank < world_size:
            raise UsageError(
                f"world_size must divide global_batch {config.global_batch} and exceed the rank, "
                f"got rank {rank} of {world_size}"
            )
        self.config = config
        self.stall_seconds = 0.0
        """Time that the consumer has waited for batches so far."""
        self._rank, self._world_size = rank, world_size
        self._dataset = Dataset(dataset)
        self.classes: tuple[str, ...] = config.classes or tuple(self._dataset.manifest.classes)
        self._samples, self._shard_sizes = _select(self._dataset, config, self.classes)
        self._epoch = self._position = 0
        batch = config.global_batch // world_size
        views = batch * config.clips * config.crops
        self._graph = AugmentGraph(
            max_views=views, size=config.size, mean=config.mean, std=config.std, threads=config.threads
        )
        self._pool = ThreadPoolExecutor(config.threads, thread_name_prefix="decode")

    @property
    def samples(self) -> int:
        """Samples of one epoch, over all ranks."""
        return len(self._samples)

    def __len__(self) -> int:
        """Steps of a whole epoch; training drops the tail, evaluation pads it."""
        full, tail = divmod(len(self._samples), self.config.global_batch)
        return full + bool(tail and not self.config.training)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self._epoch, self._position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands after the batches that were taken; JSON-serialisable, the same for every rank."""
        config = self.config
        values = (config.seed, self._epoch, self._position, config.window_shards, config.global_batch)
        return dict(zip(STATE_KEYS, (*values, self._dataset.manifest.digest, ORDER_VERSION), strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a loader of the same dataset, seed and batch stood, under any world size.

        Raises:
            UsageError: the state belongs to another dataset, seed, batch, window or version of the order.
        """
        own = self.state_dict()
        if not isinstance(state, dict):
            raise UsageError(f"loader state must be what state_dict gave, got {type(state).__name__}")
        for name in STATE_KEYS:
            if name not in ("epoch", "position") and state.get(name) != own[name]:
                raise UsageError(f"loader state must have {name} {own[name]!r} to go on here, got {state.get(name)!r}")
        self._epoch, self._position = int(state["epoch"]), int(state["position"])

    def __iter__(self) -> Iterator[Batch]:
        """The batches from the current position to the end of the epoch, made ahead by a thread."""
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(self.config.prefetch)
        stop = threading.Event()
        start = self._position
        producer = threading.Thread(target=self._produce, args=(ready, stop, self._epoch, start), daemon=True)
        producer.start()
        try:
            while True:
                asked = time.monotonic()
                batch = ready.get()
                self.stall_seconds += time.monotonic() - asked
                if batch is None:
                    break
                if isinstance(batch, BaseException):
                    raise batch
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

        try:
            order = self._order(epoch)
            for first in range(position, len(self) * self.config.global_batch, self.config.global_batch):
                if stop.is_set():
                    return
                mine = range(first + self._rank, first + self.config.global_batch, self._world_size)
                put(self._make_batch(order, mine, epoch))
            put(None)
        except BaseException as error:  # handed to the consumer, who raises it
            put(error)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if not self.config.training:
            return np.arange(len(self._samples))
        seed, window = self.config.seed, self.config.window_shards
        order = EpochOrder(self._shard_sizes, seed=seed, epoch=epoch, window_shards=window)
        return order.at(np.arange(len(order)))

    def _make_batch(self, order: NDArray[np.int64], positions: Sequence[int], epoch: int) -> Batch:
        samples = [self._samples[order[position % len(order)]] for position in positions]
        views = [self._views(sample, epoch) for sample in samples]
        decoded = list(self._pool.map(self._decode, samples, views))
        good = [i for i, videos in enumerate(decoded) if videos is not None]
        if not good:
            raise ReelmillError(f"no sample of a whole batch decodes; the first is {samples[0].key}")
        # A bad sample shows its nearest good neighbour's pixels and is masked by valid_B.
        donors = [min(good, key=lambda g: (abs(g - i), g)) for i in range(len(samples))]
        videos = [video for donor in donors for video in decoded[donor] or ()]
        flat = [view for donor in donors for view in views[donor]]
        clips = torch.from_numpy(self._graph.run(videos, flat))
        valid = [i in good and position < len(order) for i, position in enumerate(positions)]
        return Batch(
            clips_BVTCHW=clips.reshape(len(samples), -1, *clips.shape[1:]),
            labels_B=torch.tensor([sample.label for sample in samples]),
            action_ids_B=torch.tensor([_or(sample.row["action_id"], -1) for sample in samples]),
            keys=[sample.key for sample in samples],
            captions=[_or(sample.row["caption"], "") for sample in samples],
            valid_B=torch.tensor(valid),
        )

    def _views(self, sample: _Sample, epoch: int) -> list[View]:
        row = sample.row
        wide, high = row["width"] * row["pixel_aspect"], row["height"]
        if row["rotation"] in (90, 270):
            wide, high = high, wide
        return make_views(self.config, epoch=epoch, key=sample.key, frames=row["frames"], width=wide, height=high)

    def _decode(self, sample: _Sample, views: Sequence[View]) -> list[NDArray[np.uint8]] | None:
        """Frames per view; None, and a line in the quarantine file, where the sample is damaged."""
        video = members_of(sample.row["members"])[0]
        tar = self._dataset.tar(sample.ref.shard)
        try:
            data = tar.read(sample.key, video)
            packets = self._dataset.packets(sample.ref)
            indices = np.concatenate([view.frames for view in views])
            frames = decode_frames(data, packets, indices, codec=sample.row["codec"], rotation=sample.row["rotation"])
        except (DamageError, FFmpegError, ValueError, IndexError) as error:
            if self.config.quarantine is not None:
                line = {"shard": tar.path.name, "key": sample.key, "offset": video.offset, "error": str(error)}
                with self.config.quarantine.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            return None
        return list(frames.reshape(len(views), -1, *frames.shape[1:]))


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _select(dataset: Dataset, config: LoaderConfig, classes: Sequence[str]) -> tuple[list[_Sample], list[int]]:
    """The samples that pass the filters, in dataset order, and how many of each shard."""
    index = {label: place for place, label in enumerate(classes)}
    unknown = [label for label in classes if label not in dataset.manifest.classes]
    if unknown:
        raise UsageError(f"classes must be labels of {dataset.folder}, got {unknown[0]!r}")
    rows = dataset.table(COLUMNS).to_pylist()
    places = [SampleRef(shard, row) for shard, size in enumerate(dataset.shard_sizes) for row in range(size)]
    samples = []
    for row, place, live in zip(rows, places, dataset.live(), strict=True):
        label = next((index[name] for name in row["labels"] if name in index), -1)
        if live and config.split in (None, row["split"]) and (config.classes is None or label >= 0):
            samples.append(_Sample(row["key"], place, label, row))
    least = config.global_batch if config.training else 1
    if len(samples) < least:
        splits = sorted({row["split"] or "none" for row in rows})
        asked = "any split" if config.split is None else f"split {config.split!r}"
        raise UsageError(
            f"{dataset.folder} must hold at least {least} samples of {asked} and {len(classes)} classes, "
            f"got {len(samples)} (splits there: {', '.join(splits)})"
        )
    sizes = np.bincount([sample.ref.shard for sample in samples], minlength=len(dataset.shard_sizes))
    return samples, [int(size) for size in sizes]
