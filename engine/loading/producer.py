"""Batches made ahead of whoever takes them, in a thread of their own."""

import queue
import threading
from contextlib import closing, suppress

from .batch import Batch
from .steps import Steps

_Item = Batch | BaseException | None


class Producer:
    """Makes the batches from a position to the end of an epoch.

    Args:
        steps: makes one at a time.
        epoch: >= 0.
        position: in the epoch, a multiple of the global batch.
        prefetch: batches that lie ready at most.
    """

    def __init__(self, steps: Steps, epoch: int, position: int, *, prefetch: int) -> None:
        self._ready: queue.Queue[_Item] = queue.Queue(prefetch)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(steps, epoch, position), daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Batches that lie ready."""
        return self._ready.qsize()

    def take(self) -> Batch | None:
        """The next batch; None after the last one, and once it was stopped.

        Raises:
            whatever kept the batch from being made.
        """
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def stop(self) -> None:
        """End the thread: when this returns, nothing is read or decoded any more."""
        self._stopped.set()
        while self._thread.is_alive():
            self._empty()  # it may wait for room
            self._thread.join(timeout=0.1)
        self._empty()
        self._ready.put(None)  # for a thread that still waits for a batch

    def _empty(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._ready.get_nowait()

    def _run(self, steps: Steps, epoch: int, position: int) -> None:
        try:
            with closing(steps.batches(epoch, position)) as batches:
                for batch in batches:
                    self._ready.put(batch)
                    if self._stopped.is_set():
                        return
            self._ready.put(None)
        except BaseException as error:  # handed to the consumer, who raises it
            self._ready.put(error)
