"""Order → bytes → clips: deterministic batches from datasets, made ahead by threads, resumed exactly."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from ...shards.errors import UsageError
from ...shards.manifest import ORDER_VERSION
from .batch import Batch
from .catalog import Catalog
from .collate import Collator
from .config import LoaderConfig
from .heads import Heads
from .meter import Meter
from .producer import Producer
from .quarantine import Quarantine
from .samples import Samples
from .steps import Steps

STATE_KEYS = ("seed", "epoch", "position", "window_shards", "global_batch", "weights", "samples", "order_version")


class ClipLoader:
    """Iterates clips of one or more datasets; each `iter()` gives the rest of the current epoch.

    One iteration runs at a time: another `iter()`, `set_epoch` and `load_state_dict` end the one before.

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
        self._catalog = catalog = Catalog([datasets] if isinstance(datasets, str | Path) else datasets, config)
        self.classes: tuple[str, ...] = catalog.classes
        quarantine = Quarantine(config.quarantine, config.max_bad_fraction, len(catalog) // world_size, self.meter)
        self._heads = Heads(config, self.meter, max_samples=config.global_batch // world_size) if config.video else None
        samples = Samples(config, catalog, self._heads, quarantine, self.meter)
        collator = Collator(config, catalog, self._heads, quarantine)
        self._steps = Steps(config, catalog, samples, collator, rank=rank, world_size=world_size)
        self._epoch = self._position = 0
        self._producer: Producer | None = None

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
        self._end()
        self._steps.close()
        if self._heads is not None:
            self._heads.close()

    def __len__(self) -> int:
        """Steps of a whole epoch; training drops the tail, evaluation pads it."""
        return len(self._steps)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, >= 0."""
        self._go_to(epoch, 0)

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
        self._go_to(epoch, position)

    def __iter__(self) -> Iterator[Batch]:
        """The batches from the current position to the end of the epoch, made ahead by threads."""
        self._end()
        producer = self._producer = Producer(self._steps, self._epoch, self._position, prefetch=self.config.prefetch)
        given = time.monotonic()
        try:
            while True:
                asked, depth = time.monotonic(), producer.depth
                batch = producer.take()
                if producer is not self._producer:
                    raise UsageError(
                        "this iteration of the loader is over: another one, or another position, came since"
                    )
                if batch is None:
                    break
                now = time.monotonic()
                self.meter.took(now - given, now - asked, depth)
                given = now
                self._position += self.config.global_batch
                yield batch
            self.set_epoch(self._epoch + 1)
        finally:
            producer.stop()

    def _go_to(self, epoch: int, position: int) -> None:
        if not _is_count(epoch):
            raise UsageError(f"epoch must be a whole number >= 0, got {epoch!r}")
        self._end()
        self._epoch, self._position = epoch, position

    def _end(self) -> None:
        """End the iteration that runs, if one does."""
        if self._producer is not None:
            self._producer.stop()
            self._producer = None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
