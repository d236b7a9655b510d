"""Samples that did not decode: written down, counted, and too many of them stop the run."""

import json
import threading
from pathlib import Path

from ...shards.errors import ReelmillError
from .catalog import Sample
from .meter import Meter

LEAST_SAMPLES = 1000
"""The allowed share is one of at least so many samples."""


class Quarantine:
    """What becomes of bad samples.

    Args:
        path: to which a JSON line is appended for each: dataset, shard, key, offset (of the video in its tar), error.
            None keeps none.
        max_bad_fraction: of the samples read, from which on the run stops.
        meter: counts them.
    """

    def __init__(self, path: Path | None, max_bad_fraction: float, meter: Meter) -> None:
        self._path, self._limit, self._meter = path, max_bad_fraction, meter
        self._lock = threading.Lock()

    def add(self, sample: Sample, error: Exception) -> None:
        """Take in a sample that did not decode.

        Raises:
            ReelmillError: there are too many.
        """
        line = {
            "dataset": sample.dataset.store.where,
            "shard": sample.dataset.manifest.shards[sample.ref.shard].uri,
            "key": sample.key,
            "offset": sample.video.offset,
            "error": str(error) or type(error).__name__,
        }
        if self._path is not None:
            with self._lock, self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        bad, seen = self._meter.bad_sample()
        if bad > self._limit * max(seen, LEAST_SAMPLES):
            raise ReelmillError(
                f"at most max_bad_fraction {self._limit} of the samples may be bad, but {bad} of {seen} did not decode;"
                f" the last is {line['key']} in {line['dataset']}/{line['shard']}: {line['error']}"
            )
