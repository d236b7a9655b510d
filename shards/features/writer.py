"""Writing a feature set: streamed, whole or not at all, the same bytes for the same features."""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import UsageError
from ..files import atomic_file, make_folder, sha256_of, storage_error, sync_folder, write_atomic
from ..schema import Member
from ..tar import TarWriter
from .schema import EXTENSION, FOLDER, INDEX, INDEX_NAME, NAME, FeatureSet, FeatureTar, TensorSpec, check_name, specs_of
from .tensors import Stored, encode


class FeatureWriter:
    """Writes a set; in memory are its index and one sample. A context: the set is there when the block ends well.

    Args:
        dataset: folder of the dataset.
        name: of the set.
        description: for people.
        versions: of the model and the programs that made the features; nothing time-like.

    Raises:
        UsageError: the name is taken, or none.
        StorageError: the disk refused.
    """

    def __init__(self, dataset: Path, name: str, *, description: str, versions: Mapping[str, str]) -> None:
        check_name(name)
        self.folder = dataset / FOLDER / name
        if self.folder.exists():
            raise UsageError(f"{self.folder} is there already: remove it, or take another name")
        self._part = self.folder.with_name(f".{name}.part")
        self._name, self._description, self._versions = name, description, dict(versions)
        self._tars: list[FeatureTar] = []
        self._index: list[pa.Table] = []
        self._specs: dict[str, TensorSpec] | None = None
        self._open: tuple[str, ExitStack, TarWriter, list[tuple[str, Member]]] | None = None

    def __enter__(self) -> "FeatureWriter":
        shutil.rmtree(self._part, ignore_errors=True)  # of a job that was killed
        make_folder(self._part)
        return self

    def add(self, shard: str, key: str, tensors: Mapping[str, Stored]) -> None:
        """Append a sample.

        Args:
            shard: name of the dataset's shard that holds it; all samples of one follow each other.
            key: of the sample.
            tensors: by name; all samples have the same ones, in the same types and numbers of axes.

        Raises:
            UsageError: they have not, there are none, or the key can be no tar member's.
            StorageError: the disk refused.
        """
        if not tensors:
            raise UsageError(f"{key} must have at least one tensor, got none")
        specs = specs_of(tensors, self._specs)
        if self._open is None or self._open[0] != shard:
            self._close_tar()
            stack = ExitStack()
            self._open = shard, stack, TarWriter(stack.enter_context(atomic_file(self._path(shard)))), []
        _, _, writer, rows = self._open
        rows += [(key, member) for member in writer.add(key, {EXTENSION: encode(tensors)})]
        self._specs = specs

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
            elif self._open is not None:
                self._open[1].__exit__(kind, error, trace)
        finally:
            shutil.rmtree(self._part, ignore_errors=True)

    def _path(self, shard: str) -> Path:
        path = self._part / f"{shard}.tar"
        if path.exists():
            raise UsageError(f"the samples of shard {shard} must follow each other")
        return path

    def _close_tar(self) -> None:
        if self._open is None:
            return
        shard, stack, writer, rows = self._open
        self._open = None
        sha256 = writer.close()
        stack.close()
        columns = [[key for key, _ in rows], [len(self._tars)] * len(rows)]
        columns += [[getattr(member, name) for _, member in rows] for name in ("offset", "size", "crc32")]
        self._index.append(pa.table([pa.array(c, f.type) for c, f in zip(columns, INDEX, strict=True)], schema=INDEX))
        self._tars.append(FeatureTar(shard, len(rows), writer.bytes, sha256))

    def _commit(self) -> None:
        self._close_tar()
        index = pa.concat_tables([INDEX.empty_table(), *self._index]).sort_by("key").combine_chunks()
        keys = index.column("key")
        again = pc.equal(keys.slice(1), keys.slice(0, max(0, len(keys) - 1)))
        if pc.any(again).as_py():
            raise UsageError(f"every sample must be added once, got {keys[pc.index(again, True).as_py()]} twice")
        with atomic_file(self._part / INDEX_NAME) as file:
            pq.write_table(index, file, compression="zstd")
        index_sha256 = sha256_of(self._part / INDEX_NAME)
        made = FeatureSet(
            self._name, self._description, self._versions, self._specs or {}, len(index), self._tars, index_sha256
        )
        record = asdict(made) | {"digest": made.digest}
        write_atomic(self._part / NAME, (json.dumps(record, sort_keys=True, indent=1) + "\n").encode())
        try:
            os.rename(self._part, self.folder)
            sync_folder(self.folder.parent)
        except OSError as error:
            raise storage_error(self.folder, error) from error
