"""The steps of one rank: which samples, who decodes them, and how far ahead."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from .ahead import Ahead
from .batch import Batch
from .catalog import Catalog
from .collate import Collator
from .config import LoaderConfig
from .places import Places
from .samples import Loaded, Samples

JOBS = 2
"""Batches whose samples are decoded at a time: the threads never wait for the graph."""
_Job = list[Future[Loaded]]


class Steps:
    """Makes batches, one after the other.

    Args:
        config: of the loader.
        catalog: of the samples.
        samples: loads each.
        collator: puts them together.
        rank: of this process.
        world_size: ranks that share a step.
    """

    def __init__(
        self,
        config: LoaderConfig,
        catalog: Catalog,
        samples: Samples,
        collator: Collator,
        *,
        rank: int,
        world_size: int,
    ) -> None:
        self._config, self._catalog, self._samples, self._collator = config, catalog, samples, collator
        self._rank, self._world_size = rank, world_size
        self._places = Places(catalog.shard_sizes, config)
        # a thread that waits for a process does nothing: others resize meanwhile
        self._pool = ThreadPoolExecutor(config.threads + config.workers, thread_name_prefix="decode")

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        return self._places.steps

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def batches(self, epoch: int, position: int) -> Generator[Batch, None, None]:
        """The batches from a position to the end of an epoch; nothing is read any more once it is closed."""
        size = self._config.global_batch
        firsts = iter(range(position, len(self) * size, size))
        jobs: deque[_Job] = deque()
        ahead = self._ahead(epoch, position)
        try:
            while True:
                while len(jobs) < JOBS and (first := next(firsts, None)) is not None:
                    jobs.append(self._begin(epoch, first))
                if not jobs:
                    return
                yield self._collator.batch([sample.result() for sample in jobs[0]], epoch)
                jobs.popleft()
                position += size
                if ahead is not None:
                    ahead.passed(position)
        finally:
            if ahead is not None:
                ahead.stop()
            wait([sample for job in jobs for sample in job if not sample.cancel()])

    def _begin(self, epoch: int, first: int) -> _Job:
        """Send a step's samples to the decoding threads."""
        (sources, numbers), counted = self._places.of_rank(epoch, first, self._rank, self._world_size)
        slots = zip(sources.tolist(), numbers.tolist(), counted.tolist(), strict=True)
        return [self._pool.submit(self._samples.load, epoch, *slot) for slot in slots]

    def _ahead(self, epoch: int, position: int) -> Ahead | None:
        if not self._catalog.samples_ahead:
            return None
        positions = range(position, min(len(self) * self._config.global_batch, len(self._places)))
        return Ahead(self._catalog, partial(self._places.at, epoch), positions, self._catalog.samples_ahead)
