"""Where a loader's time goes: waiting, decoding, and how much was read. The figures of `Figures` are one rank's."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class HeadFigures:
    """What one head decoded; samples that did not decode are not among it."""

    samples: int = 0
    payload_bytes: int = 0
    """Of their videos, as they were read."""
    seconds: float = 0.0
    """From the bytes of a video to the windows of its views (of dali-cpu and nvdec, to its clips), summed over the
    threads or processes at work; waiting for a free one is not counted."""

    @property
    def ms(self) -> float:
        """Milliseconds of one thread or process per sample; of nvdec, which decodes whole batches, of the GPU."""
        return 1000 * self.seconds / self.samples if self.samples else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Bytes of videos that one thread or process gets through."""
        return self.payload_bytes / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Figures:
    """Counted since a loader was made, on this rank."""

    wall_seconds: float = 0.0
    """That the consumer spent between batches and waiting for them, while it iterated."""
    stall_seconds: float = 0.0
    """Of these, waiting for a batch."""
    batches: int = 0
    samples: int = 0
    """Asked for, also those that did not decode; ahead of the batches that were taken."""
    bad: int = 0
    """Of these, that did not decode."""
    payload_bytes: int = 0
    """Read of videos and features."""
    heads: dict[str, HeadFigures] = field(default_factory=dict)
    """By the head that decoded: jpeg, pyav, dali-cpu, nvdec."""
    ready_batches: int = 0
    """Sum over all batches of how many lay ready when one was asked for."""

    @property
    def stall_share(self) -> float:
        """Share of the wall time that the consumer waited."""
        return self.stall_seconds / self.wall_seconds if self.wall_seconds else 0.0

    @property
    def queue_depth(self) -> float:
        """Batches that lay ready when one was asked for, on average."""
        return self.ready_batches / self.batches if self.batches else 0.0

    @property
    def decoded(self) -> dict[str, int]:
        """Samples by the head that decoded them."""
        return {name: head.samples for name, head in self.heads.items()}

    @property
    def bytes_per_second(self) -> float:
        """Read of videos, over the wall time."""
        return self.payload_bytes / self.wall_seconds if self.wall_seconds else 0.0


class Meter:
    """Counts for one loader; its threads share it."""

    def __init__(self) -> None:
        self._figures, self._lock = Figures(), threading.Lock()

    def read(self) -> Figures:
        """The figures so far, a copy."""
        with self._lock:
            heads = {name: replace(head) for name, head in self._figures.heads.items()}
            return replace(self._figures, heads=heads)

    def took(self, wall_seconds: float, stall_seconds: float, ready: int) -> None:
        """The consumer took a batch."""
        with self._lock:
            self._figures.wall_seconds += wall_seconds
            self._figures.stall_seconds += stall_seconds
            self._figures.ready_batches += ready
            self._figures.batches += 1

    def sample(self) -> None:
        """A sample is going to be read."""
        with self._lock:
            self._figures.samples += 1

    def payload(self, size: int) -> None:
        """So many bytes of a video were read."""
        with self._lock:
            self._figures.payload_bytes += size

    def bad_sample(self) -> tuple[int, int]:
        """A sample did not decode; returns how many did not, of how many."""
        with self._lock:
            self._figures.bad += 1
            return self._figures.bad, self._figures.samples

    @contextmanager
    def decoding(self, head: str, payload_bytes: int, samples: int = 1) -> Iterator[None]:
        """Time the block, which decodes so many bytes of so many samples by `head`; one that raises does not count."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        with self._lock:
            its = self._figures.heads.setdefault(head, HeadFigures())
            its.samples += samples
            its.payload_bytes += payload_bytes
            its.seconds += seconds
