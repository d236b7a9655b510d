"""Random access to the samples of a dataset: tables by column, payloads by offset, every payload held to its crc32."""

import os
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .errors import DamageError
from .files import inside
from .manifest import Manifest, read_manifest
from .schema import SAMPLE, Member


class ShardReader:
    """Reads members of one tar by offset; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DamageError(f"{path} is listed in the dataset but cannot be opened: {error.strerror}") from error
        self.bytes = os.fstat(self._descriptor).st_size

    def read(self, key: str, member: Member) -> bytes:
        """The payload of a member.

        Raises:
            DamageError: it lies outside the tar, or its crc32 is not the stored one.
        """
        where = f"{self.path}: {key}.{member.ext} at offset {member.offset}"
        if member.offset < 0 or member.size < 0 or member.offset + member.size > self.bytes:
            raise DamageError(f"{where} must end inside the tar of {self.bytes} bytes, but is {member.size} bytes long")
        data = os.pread(self._descriptor, member.size, member.offset)
        while len(data) < member.size:  # one pread returns at most 2 GiB
            data += os.pread(self._descriptor, member.size - len(data), member.offset + len(data))
        crc32 = zlib.crc32(data)
        if crc32 != member.crc32:
            raise DamageError(f"{where} must have crc32 {member.crc32:08x}, got {crc32:08x}")
        return data

    def close(self) -> None:
        """Close the file; reading after this is an error."""
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class SampleRef:
    """Where one sample lives: its shard's place in the dataset and its row there."""

    shard: int
    row: int


class Dataset:
    """A committed dataset, opened for reading."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest: Manifest = read_manifest(folder)
        self._tars: dict[int, ShardReader] = {}
        self._packets: dict[int, pa.ChunkedArray] = {}
        self._lock = threading.Lock()

    @cached_property
    def shard_sizes(self) -> list[int]:
        """Samples of each shard, in dataset order."""
        return [shard.samples for shard in self.manifest.shards]

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of all samples, also of those that a later generation took away (see `live`), in dataset order.

        `packets` is large, so name the columns you need.
        """
        tables = [self.shard_table(shard, columns) for shard in range(len(self.manifest.shards))]
        fields = SAMPLE if columns is None else pa.schema([SAMPLE.field(name) for name in columns])
        return pa.concat_tables([fields.empty_table(), *tables])

    def live(self) -> NDArray[np.bool_]:
        """For each row of `table` whether the sample is part of the dataset still."""
        live = np.ones(sum(self.shard_sizes), dtype=np.bool_)
        first = 0
        for shard, (size, gone) in enumerate(zip(self.shard_sizes, self.manifest.tombstones(), strict=True)):
            if gone:
                keys = self.shard_table(shard, ["key"]).column("key").to_pylist()
                live[first : first + size] = [key not in gone for key in keys]
            first += size
        return live

    def packets(self, ref: SampleRef) -> list[dict[str, Any]]:
        """The packet table of one sample's video, in decode order."""
        with self._lock:
            if ref.shard not in self._packets:
                self._packets[ref.shard] = self.shard_table(ref.shard, ["packets"]).column("packets")
        packets: list[dict[str, Any]] = self._packets[ref.shard][ref.row].as_py()
        return packets

    def tar(self, shard: int) -> ShardReader:
        """The open tar of a shard."""
        with self._lock:
            if shard not in self._tars:
                self._tars[shard] = ShardReader(self.tar_path(shard))
            return self._tars[shard]

    def tar_path(self, shard: int) -> Path:
        """Where the tar of a shard lies."""
        return inside(self.folder, self.manifest.shards[shard].uri)

    def close(self) -> None:
        """Close every open tar."""
        with self._lock:
            for tar in self._tars.values():
                tar.close()
            self._tars.clear()

    def shard_table(self, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of one shard, in tar order."""
        path = self.tar_path(shard).with_suffix(".parquet")
        try:
            table = pq.read_table(path, columns=None if columns is None else list(columns))
        except (OSError, pa.ArrowInvalid) as error:
            raise DamageError(f"{path} cannot be read as the table of its shard: {error}") from error
        return table.replace_schema_metadata(None)


def members_of(value: Sequence[dict[str, Any]]) -> list[Member]:
    """Members from a parquet `members` cell."""
    return [Member(**member) for member in value]
