"""Which sample of a dataset a name means, among millions, without a dictionary of them."""

import hashlib
import os
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...shards.errors import UsageError
from ...shards.reader import Dataset
from ..sources import VIDEO_EXTENSIONS


def without_extension(input_id: str) -> str:
    """An input's id without the extension of a video."""
    stem, extension = os.path.splitext(input_id)
    return stem if extension.lower() in VIDEO_EXTENSIONS else input_id


def own_name(input_id: str) -> str:
    """The last part of it."""
    return without_extension(input_id).rpartition("/")[2]


class Samples:
    """The live samples of a dataset by name; some 100 bytes for each.

    A name means the sample whose key it is; else the one whose input has it as id, as id without the extension, or as
    the last part of that.

    Args:
        dataset: the dataset.
    """

    def __init__(self, dataset: Dataset) -> None:
        live = dataset.live()
        table = dataset.table(["key", "input_id"]).filter(pa.array(live)).combine_chunks()
        self._keys, self._ids = table.column("key"), table.column("input_id")
        ends = np.cumsum(dataset.shard_sizes)
        self._firsts = np.concatenate([[0], np.cumsum(live)[ends - 1]]) if len(ends) else np.zeros(1, np.int64)
        self._names = [entry.name for entry in dataset.manifest.shards]
        forms: list[tuple[pa.ChunkedArray, Callable[[str], str]]] = [
            (self._keys, str),
            (self._ids, str),
            (self._ids, without_extension),
            (self._ids, own_name),
        ]
        self._forms = [(column, form, *_sorted(form(each.as_py()) for each in column)) for column, form in forms]

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, number: int) -> str:
        """Of the sample of a number, in dataset order."""
        key: str = self._keys[number].as_py()
        return key

    def shard(self, number: int) -> str:
        """Name of the shard that holds it."""
        return self._names[int(np.searchsorted(self._firsts, number, side="right")) - 1]

    def input_id(self, number: int) -> str:
        """Of the input that it came from."""
        name: str = self._ids[number].as_py()
        return name

    def find(self, name: str) -> int | None:
        """The number of the sample that a name means; None where it means none.

        Raises:
            UsageError: it fits several samples.
        """
        digest = _digest(name)
        for column, form, digests, order in self._forms:
            first, last = np.searchsorted(digests, digest, "left"), np.searchsorted(digests, digest, "right")
            fitting = [int(row) for row in order[first:last] if form(column[int(row)].as_py()) == name]
            if len(fitting) > 1:
                one, other = (f"{self.key(row)} of {self.input_id(row)}" for row in fitting[:2])
                raise UsageError(
                    f"features {name!r} must fit one sample, but fit {len(fitting)} ({one}, {other} …): name the files "
                    "by keys, or by whole ids"
                )
            if fitting:
                return fitting[0]
        return None


def _sorted(names: Iterable[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    digests = np.fromiter((_digest(name) for name in names), np.uint64)
    order = np.argsort(digests, kind="stable")
    return digests[order], order


def _digest(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
