"""The import of features: every file finds its sample, then all are written in the dataset's own order."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from ... import console
from ...shards.errors import ReelmillError, StorageError, UsageError
from ...shards.features import FeatureWriter
from ...shards.reader import Dataset
from ..commit import finish
from ..config import FeaturesConfig
from ..work import Work
from .files import Found, Part, find
from .names import Samples

SHOWN = 10


@dataclass(slots=True)
class Loaded:
    """What an import did."""

    folder: Path
    """Of the set."""
    samples: int
    """Live ones of the dataset."""
    matched: int = 0
    """Samples that have features now."""
    unknown: int = 0
    """Files that are no sample's."""
    damaged: int = 0
    """Samples whose files do not read, or hold other tensors than the others'."""
    strangers: list[str] = field(default_factory=list)
    """Names of the first unknown files."""
    faults: list[str] = field(default_factory=list)
    """Of the first damaged ones: name and what is wrong."""

    @property
    def missing(self) -> int:
        """Samples without a file."""
        return self.samples - self.matched - self.damaged


def load_features(config: FeaturesConfig) -> Loaded:
    """Write features that lie in files beside the shards of a dataset.

    Raises:
        UsageError: no dataset, no features, pickles, a name that is taken, or files that fit no sample, several, or one
            that another fits too; nothing was done.
        StorageError: the disk refused.
    """
    folder = config.dataset.absolute()
    work = Work(folder)
    dataset = Dataset(folder)  # before a lock makes the folder
    with work.lock(), tempfile.TemporaryFile("w+b") as spool:
        finish(folder)
        samples = Samples(dataset)
        if not len(samples):
            raise UsageError(f"{folder} must hold samples to have features, got none")
        writer = FeatureWriter(folder, config.name, description=config.description, versions=dict(config.made_with()))
        done = Loaded(writer.folder, len(samples))
        spooled = _Spool(cast(BinaryIO, spool), len(samples))
        _match(config, samples, spooled, done)
        with writer, console.progress(spooled.count, "write", "samples") as shown:
            for number, found in spooled.in_order():
                try:
                    writer.add(samples.shard(number), samples.key(number), found.read(config.tensor))
                    done.matched += 1
                except StorageError:
                    raise
                except ReelmillError as error:
                    done.damaged += 1
                    done.faults += [f"{found.name}: {error}"] * (len(done.faults) < SHOWN)
                shown.update()
            if not done.matched:
                raise ReelmillError(f"none of the {done.damaged} files of {config.source} reads: {done.faults[0]}")
    return done


def _match(config: FeaturesConfig, samples: Samples, spooled: "_Spool", done: Loaded) -> None:
    with console.progress(None, "match", "files") as shown:
        for found in find(config.source):
            shown.update()
            number = samples.find(found.name)
            if number is None:
                done.unknown += 1
                done.strangers += [found.name] * (len(done.strangers) < SHOWN)
            elif not spooled.put(number, found):
                raise UsageError(
                    f"features of {config.source} must be one file's for each sample, got {found.name!r} and another "
                    f"one for {samples.key(number)} of {samples.input_id(number)}"
                )
    if not spooled.count:
        if not done.unknown:
            raise UsageError(f"features must be .npy, .npz or .safetensors files, but {config.source} holds none")
        raise UsageError(
            f"files of {config.source} must be named like keys or inputs of {config.dataset}, such as "
            f"{samples.key(0)} or {samples.input_id(0)}, but all {done.unknown} are not, such as {done.strangers[0]}"
        )


class _Spool:
    """Remembers on disk what was found for each sample: a million paths need not lie in memory."""

    def __init__(self, file: BinaryIO, samples: int) -> None:
        self._file = file
        self._places = np.full(samples, -1, dtype=np.int64)
        self._end = self.count = 0

    def put(self, number: int, found: Found) -> bool:
        """Keep what was found for a sample; False where there is something already."""
        if self._places[number] >= 0:
            return False
        line = json.dumps([found.name, found.parts]).encode() + b"\n"
        self._file.write(line)
        self._places[number] = self._end
        self._end += len(line)
        self.count += 1
        return True

    def in_order(self) -> Iterator[tuple[int, Found]]:
        """Samples and what was found for each."""
        for number in np.flatnonzero(self._places >= 0).tolist():
            self._file.seek(self._places[number])
            name, parts = json.loads(self._file.readline())
            yield number, Found(name, tuple(Part(*part) for part in parts))
