"""Random access to the samples of a dataset: tables by column, payloads by offset, every payload held to its crc32."""

import os
import threading
import weakref
import zlib
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .cache import DiskCache
from .errors import DamageError, UsageError
from .files import inside
from .manifest import NAME as MANIFEST_NAME
from .manifest import Manifest, parse_manifest, read_manifest
from .schema import SAMPLE, Member
from .store import Fetch, Folder, Remote, Store
from .table import Packets

SMALL_SAMPLES = 20_000
"""Tables of so many samples are kept in memory: with packets they take about 7 kB each."""
OPEN_TARS = 256
"""Of one dataset that are kept open; a process may often hold 1024 files."""
TABLE_VALUES = 1 << 27
"""Single values in the table of one shard, of which each packet has four: 0.7 GB in memory."""
TABLE_BYTES = 1 << 30
"""Of the table of one shard, before its compression."""


class ShardReader:
    """Reads members of one tar by offset; safe to share between threads.

    Args:
        path: of the tar, for errors.
        descriptor: of the open tar; closed by `close`, or once nobody holds the reader.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor
        self._end = weakref.finalize(self, os.close, descriptor)
        self.bytes = os.fstat(descriptor).st_size

    def read(self, key: str, member: Member) -> bytes:
        """The payload of a member.

        Raises:
            DamageError: it lies outside the tar, the disk does not give it, or its crc32 is not the stored one.
        """
        where = f"{self.path}: {key}.{member.ext} at offset {member.offset}"
        if member.offset < 0 or member.size < 0 or member.offset + member.size > self.bytes:
            raise DamageError(f"{where} must end inside the tar of {self.bytes} bytes, but is {member.size} bytes long")
        try:
            data = os.pread(self._descriptor, member.size, member.offset)
            while len(data) < member.size:  # one pread returns at most 2 GiB
                piece = os.pread(self._descriptor, member.size - len(data), member.offset + len(data))
                if not piece:
                    raise DamageError(
                        f"{where} ends after {len(data)} of {member.size} bytes: the tar was cut meanwhile"
                    )
                data += piece
        except OSError as error:
            raise DamageError(f"{where} cannot be read: {error.strerror}") from error
        crc32 = zlib.crc32(data)
        if crc32 != member.crc32:
            raise DamageError(f"{where} must have crc32 {member.crc32:08x}, got {crc32:08x}")
        return data

    def close(self) -> None:
        """Close the file; reading after this is an error."""
        self._end()


@dataclass(frozen=True, slots=True)
class SampleRef:
    """Where one sample lives: its shard's place in the dataset and its row there."""

    shard: int
    row: int


class Dataset:
    """A committed dataset, opened for reading.

    Args:
        folder: of the dataset; with `fetch` it may be a URL.
        cache: for tables of a large dataset in a form that is read by rows, and for the files of a remote one.
        fetch: reads URLs.

    Raises:
        UsageError: no dataset there, or a URL without `cache` and `fetch`.
        DamageError: its manifest is damaged.
    """

    def __init__(self, folder: str | Path, *, cache: DiskCache | None = None, fetch: Fetch | None = None) -> None:
        self.folder, self._cache = Path(folder), cache
        self.store: Store = Folder(self.folder)
        if "://" in str(folder):
            if cache is None or fetch is None:
                raise UsageError(f"a dataset behind a URL is read by way of a cache, got {folder}")
            self.store = Remote(str(folder), cache, fetch)
            where = f"{self.store.where}/{MANIFEST_NAME}"
            self.manifest: Manifest = parse_manifest(self.store.read(MANIFEST_NAME), where)
        else:
            self.manifest = read_manifest(folder)
        self._tars: dict[int, ShardReader] = {}
        self._rows: dict[int, pa.Table] = {}
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

    def rows(self, shard: int) -> pa.Table:
        """The rows of one shard in tar order, to be read one by one; kept open.

        A small dataset's tables stay in memory. Those of a large one are unpacked into the cache once, and only what is
        touched of them takes memory.
        """
        with self._lock:
            table = self._rows.get(shard)
        if table is None:
            table = self.shard_table(shard) if self._cache is None or self._small else self._unpacked(shard)
            with self._lock:
                self._rows[shard] = table
        return table

    def packets(self, ref: SampleRef) -> Packets:
        """The packet table of one sample's video.

        Raises:
            DamageError: the sample has none.
        """
        cell = self.rows(ref.shard).column("packets")[ref.row]
        if not cell.is_valid:
            raise DamageError(f"row {ref.row} of the table of {self.tar_path(ref.shard)} must hold a packet table")
        return Packets.of(cell.values)

    def tar(self, shard: int) -> ShardReader:
        """The open tar of a shard; it stays open for whoever holds it, and a while for who asks next."""
        with self._lock:
            tar = self._tars.pop(shard, None)
        if tar is None:
            entry = self.manifest.shards[shard]
            tar = ShardReader(self.tar_path(shard), self.store.open(entry.uri, entry.sha256))
        with self._lock:
            self._tars[shard] = tar  # the last one to be let go
            if len(self._tars) > OPEN_TARS:
                del self._tars[next(iter(self._tars))]
        return tar

    def tar_path(self, shard: int) -> Path:
        """Where the tar of a shard lies."""
        return inside(self.folder, self.manifest.shards[shard].uri)

    def let_go(self, shards: Container[int]) -> None:
        """Keep the tars and tables of some shards open no longer than they are being read."""
        with self._lock:
            for shard in [shard for shard in self._tars if shard in shards]:
                del self._tars[shard]
            for shard in [shard for shard in self._rows if shard in shards]:
                del self._rows[shard]

    def close(self) -> None:
        """Close every open tar."""
        with self._lock:
            for tar in self._tars.values():
                tar.close()
            self._tars.clear()
            self._rows.clear()

    def shard_table(self, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of one shard, in tar order."""
        entry = self.manifest.shards[shard]
        path = self.tar_path(shard).with_suffix(".parquet")
        uri = PurePosixPath(entry.uri).with_suffix(".parquet").as_posix()
        with os.fdopen(self.store.open(uri, entry.parquet_sha256), "rb") as file:
            try:
                parquet = pq.ParquetFile(file)
                _check_size(path, parquet.metadata)
                table = parquet.read(columns=None if columns is None else list(columns))
            except (OSError, pa.ArrowException) as error:
                raise DamageError(f"{path} cannot be read as the table of its shard: {error}") from error
        fields = list(SAMPLE) if columns is None else [SAMPLE.field(name) for name in columns]
        found = {field.name: field.type for field in table.schema}
        if found != {field.name: field.type for field in fields} or len(table) != entry.samples:
            raise DamageError(
                f"{path} must hold {entry.samples} rows with {', '.join(field.name for field in fields)} in the types "
                f"of the format, got {len(table)} with {', '.join(found)}"
            )
        return table.replace_schema_metadata(None)

    @cached_property
    def _small(self) -> bool:
        return sum(self.shard_sizes) <= SMALL_SAMPLES

    def _unpacked(self, shard: int) -> pa.Table:
        assert self._cache is not None

        def make(path: Path) -> None:
            table = self.shard_table(shard).combine_chunks()
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)

        descriptor = self._cache.open(f"{self.manifest.shards[shard].parquet_sha256}.arrow", make)
        try:  # by its descriptor: the cache may have let it go again
            return pa.ipc.open_file(pa.memory_map(f"/proc/self/fd/{descriptor}")).read_all()
        except pa.ArrowInvalid as error:
            where = f"{self._cache.folder}: the unpacked table of {self.tar_path(shard)}"
            raise DamageError(f"{where} does not read: {error}") from error
        finally:
            os.close(descriptor)


def _check_size(path: Path, metadata: pq.FileMetaData) -> None:
    """A table of a few bytes can unpack into any number of rows and packets."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    values = sum(group.column(column).num_values for group in groups for column in range(group.num_columns))
    size = sum(group.total_byte_size for group in groups)
    if values > TABLE_VALUES or size > TABLE_BYTES:
        raise DamageError(
            f"{path} must hold at most {TABLE_VALUES} values in {TABLE_BYTES} bytes, got {values} in {size}"
        )


def members_of(value: Sequence[dict[str, Any]]) -> list[Member]:
    """Members from a parquet `members` cell."""
    return [Member(**member) for member in value]
