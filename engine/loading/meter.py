"""Where a loader's time goes: waiting, decoding, and how much was read."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class Figures:
    """Counted since a loader was made, on this rank."""

    wall_seconds: float = 0.0
    """That the consumer spent between batches and waiting for them, while it iterated."""
    stall_seconds: float = 0.0
    """Of these, waiting for a batch."""
    batches: int = 0
    samples: int = 0
    """Read, also those that did not decode."""
    bad: int = 0
    """That did not decode."""
    payload_bytes: int = 0
    """Read of videos."""
    decode_seconds: dict[str, float] = field(default_factory=dict)
    """By head, summed over the threads."""
    decoded: dict[str, int] = field(default_factory=dict)
    """Samples by head."""
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

    def decode_ms(self) -> dict[str, float]:
        """Milliseconds of one thread per sample, by head."""
        return {head: 1000 * seconds / self.decoded[head] for head, seconds in self.decode_seconds.items()}


class Meter:
    """Counts for one loader; its threads share it."""

    def __init__(self) -> None:
        self._figures, self._lock = Figures(), threading.Lock()

    def read(self) -> Figures:
        """The figures so far, a copy."""
        with self._lock:
            figures = self._figures
            return replace(figures, decode_seconds=dict(figures.decode_seconds), decoded=dict(figures.decoded))

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
    def decoding(self, head: str, samples: int = 1) -> Iterator[None]:
        """Time the block as so many samples decoded by `head`."""
        start = time.perf_counter()
        yield
        with self._lock:
            spent = self._figures.decode_seconds
            spent[head] = spent.get(head, 0.0) + time.perf_counter() - start
            self._figures.decoded[head] = self._figures.decoded.get(head, 0) + samples
