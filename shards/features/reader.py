"""Random access to the features of a dataset, every payload held to its crc32."""

import os
from bisect import bisect_left
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DamageError
from ..reader import ShardReader
from ..schema import Member
from ..store import Store
from .schema import EXTENSION, FOLDER, INDEX, INDEX_NAME, NAME, check_name, check_tensors, parse_set
from .tensors import Stored, decode


class Features:
    """A committed set, opened for reading; safe to share between threads.

    Args:
        store: of the dataset.
        name: of the set.

    Raises:
        UsageError: there is no such set, or one of another format version.
        DamageError: its features.json is damaged.
    """

    def __init__(self, store: Store, name: str) -> None:
        check_name(name)
        self._store = store
        self.where = f"{store.where}/{FOLDER}/{name}"
        self._relative = f"{FOLDER}/{name}"
        self.set = parse_set(store.read(f"{self._relative}/{NAME}"), f"{self.where}/{NAME}")

    @cached_property
    def index(self) -> pa.Table:
        """Where every sample lies, sorted by key: `INDEX`."""
        where = f"{self.where}/{INDEX_NAME}"
        descriptor = self._store.open(f"{self._relative}/{INDEX_NAME}", self.set.index_sha256)
        with os.fdopen(descriptor, "rb") as file:
            try:
                parquet = pq.ParquetFile(file)
                fits = parquet.metadata.num_rows == self.set.samples and parquet.schema_arrow.equals(INDEX)
                table = parquet.read() if fits else INDEX.empty_table()
            except (OSError, pa.ArrowException) as error:
                raise DamageError(f"{where} does not read: {error}") from error
        if not fits:
            raise DamageError(f"{where} must hold {self.set.samples} rows of {', '.join(INDEX.names)}")
        if any(column.null_count for column in table.columns):
            raise DamageError(f"{where} must hold no nulls")
        return table.combine_chunks()

    def read(self, key: str) -> dict[str, Stored]:
        """The tensors of a sample.

        Raises:
            DamageError: the set has none of it, or its bytes are not what the set says.
        """
        row = self._find(key)
        if row is None:
            raise DamageError(f"{self.where} holds no features of {key}")
        return self.read_row(row)

    def read_row(self, row: int) -> dict[str, Stored]:
        """The tensors in a row of the index.

        Raises:
            DamageError: as `read`.
        """
        key, tar, offset, size, crc32 = (column[row].as_py() for column in self.index.columns)
        if not 0 <= tar < len(self.set.tars):
            raise DamageError(f"{self.where}/{INDEX_NAME} must name a tar of {len(self.set.tars)} for {key}, got {tar}")
        reader = ShardReader(Path(self.where) / f"{self.set.tars[tar].name}.tar", self.open_tar(tar))
        try:
            data = reader.read(key, Member(EXTENSION, offset, size, crc32))
        finally:
            reader.close()
        tensors = decode(data, f"{reader.path}: {key}")
        check_tensors(tensors, self.set.tensors, f"{reader.path}: {key}")
        return tensors

    def open_tar(self, tar: int) -> int:
        """A descriptor of a tar, to be closed by the caller; a remote one is fetched."""
        entry = self.set.tars[tar]
        return self._store.open(f"{self._relative}/{entry.name}.tar", entry.sha256)

    def _find(self, key: str) -> int | None:
        keys = self.index.column("key").chunk(0) if len(self.index) else []
        place = bisect_left(keys, key, key=lambda each: each.as_py())
        return place if place < len(keys) and keys[place].as_py() == key else None
