"""Samples that did not decode: written down, counted, and too many of them stop the run."""

import json
import threading
from pathlib import Path

from ...shards.errors import ReelmillError
from ...shards.files import storage_error
from .catalog import Sample
from .meter import Meter

LEAST_SAMPLES, LEAST_OF_SMALL = 1000, 100
"""The allowed share is one of at least so many samples; of fewer, but not of a handful, where an epoch has no more."""


class Quarantine:
    """What becomes of bad samples.

    Args:
        path: to which a JSON line is appended for each: dataset, shard, key, offset (of the video in its tar), error.
            None keeps none.
        max_bad_fraction: of the samples read, from which on the run stops.
        epoch_samples: of this rank.
        meter: counts them.
    """

    def __init__(self, path: Path | None, max_bad_fraction: float, epoch_samples: int, meter: Meter) -> None:
        self._path, self._limit, self._meter = path, max_bad_fraction, meter
        self._least = min(LEAST_SAMPLES, max(LEAST_OF_SMALL, epoch_samples))
        self._lock = threading.Lock()

    def add(self, sample: Sample, error: Exception) -> None:
        """Take in a sample that did not decode.

        Raises:
            ReelmillError: there are too many.
            StorageError: the line cannot be written.
        """
        line = {
            "dataset": sample.dataset.store.where,
            "shard": sample.dataset.manifest.shards[sample.ref.shard].uri,
            "key": sample.key,
            "offset": sample.video.offset,
            "error": str(error) or type(error).__name__,
        }
        if self._path is not None:
            try:
                with self._lock, self._path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as failed:
                raise storage_error(self._path, failed) from failed
        bad, seen = self._meter.bad_sample()
        if bad > self._limit * max(seen, self._least):
            raise ReelmillError(
                f"at most max_bad_fraction {self._limit} of the samples may be bad, but {bad} of {seen} did not decode;"
                f" the last is {line['key']} in {line['dataset']}/{line['shard']}: {line['error']}"
            )
