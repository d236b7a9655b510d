"""The job's scratch folder `.work/`: what a killed job leaves, and the next one goes on from.

Inputs are listed in batches, one file each. A batch's facts (what probing found) and a shard's note (what writing did)
are named by the content that they belong to, so a resumed job takes over exactly what is still true, whatever changed
in between: another option, another file in the folder, another number of workers.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..shards.errors import UsageError
from ..shards.files import make_folder, storage_error, write_atomic
from ..shards.table import packet_column, packet_table
from .sources import InputRow

NAME = ".work"
PASSING = frozenset({"missing", "unreadable", "network", "changed"})
"""Reasons that say nothing about a video itself: a job that is resumed tries again."""
Facts = dict[str, Any]
_NAMES = tuple(field.name for field in fields(InputRow))
_PORTABLE_NAMES = tuple(name for name in _NAMES if name != "path")


def batch_size(first_row: int) -> int:
    """Rows of the batch that starts at `first_row`: small ones first, so that a small input keeps every worker busy."""
    return 4 if first_row < 64 else 16 if first_row < 4096 else 64


class Work:
    """The scratch folder of one ingest, on a file system that every worker sees."""

    def __init__(self, out: Path) -> None:
        self.folder = out.absolute() / NAME
        self.scratch = self.folder / "scratch"
        """For files that live no longer than a task."""

    def open(self) -> None:
        """Make the folder; whatever a killed task left half done goes."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        for name in ("inputs", "facts", "notes", "scratch"):
            make_folder(self.folder / name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other jobs away from this dataset for the block; a killed job's lock is gone with it.

        Raises:
            UsageError: another job is at work here.
        """
        out = self.folder.parent
        make_folder(out)
        descriptor = os.open(out, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(f"another job is at work on {out}; wait for its end") from None
        except OSError:
            pass  # a network file system without locks
        try:
            yield
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Forget everything: the job has ended well, or starts over."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def list_inputs(self, rows: Iterable[InputRow]) -> Iterator[list[InputRow]]:
        """Write the rows down in batches, and yield each batch; older batches beyond the last are removed."""
        numbers, done, waiting = iter(range(10**9)), 0, iter(rows)
        for number in numbers:
            batch = list(islice(waiting, batch_size(done)))
            if not batch:
                break
            done += len(batch)
            self._write(self._inputs(number), "\n".join(_text(row, _NAMES) for row in batch).encode())
            yield batch
        for path in (self.folder / "inputs").iterdir():
            if int(path.stem) >= number:
                path.unlink()

    def batches(self) -> int:
        """How many batches the listing has."""
        return sum(1 for _ in (self.folder / "inputs").iterdir())

    def rows(self, number: int) -> list[InputRow]:
        """The inputs of a batch."""
        return [_row(json.loads(line)) for line in self._inputs(number).read_bytes().splitlines()]

    def ids(self) -> Iterator[str]:
        """The id of every input."""
        for number in range(self.batches()):
            for line in self._inputs(number).read_bytes().splitlines():
                yield json.loads(line)["input_id"]

    def facts_digest(self, number: int, asked: Any) -> str:
        """Names the facts of a batch: its rows, and what was asked of them."""
        digest = hashlib.blake2b(self._inputs(number).read_bytes(), digest_size=16)
        digest.update(json.dumps(asked, sort_keys=True).encode())
        return digest.hexdigest()

    def has_facts(self, number: int, digest: str) -> bool:
        """Whether the batch was probed under this digest."""
        try:
            with pa.memory_map(str(self._facts(number))) as file:
                return bool(pa.ipc.open_file(file).schema.metadata[b"digest"] == digest.encode())
        except (FileNotFoundError, pa.ArrowInvalid):  # a power cut may leave a file without its end
            return False

    def write_facts(self, number: int, digest: str, facts: list[Facts]) -> None:
        """Keep what probing a batch found; `packets`, where a record has them, apart from the rest."""
        known = [record.get("packets") for record in facts]
        tables = packet_column([packet_table(columns) if isinstance(columns, dict) else columns for columns in known])
        texts = [json.dumps({name: value for name, value in record.items() if name != "packets"}) for record in facts]
        batch = pa.record_batch([pa.array(texts, pa.string()), tables], names=["facts", "packets"])
        schema = batch.schema.with_metadata({"digest": digest})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_batch(batch)
        self._write(self._facts(number), sink.getvalue())

    def facts(self, number: int) -> list[Facts]:
        """What probing a batch found, one record per row, without packets; `at` says where those are."""
        records = [json.loads(text) for text in self._column(number, 0).to_pylist()]
        return [record | {"at": [number, place]} for place, record in enumerate(records)]

    def whole_facts(self, number: int) -> list[Facts]:
        """The same with `packets`, to be written again."""
        tables = [table.values for table in self.packets(number)]
        known = [{} if table is None else {"packets": table} for table in tables]
        return [record | more for record, more in zip(self.facts(number), known, strict=True)]

    def packets(self, number: int) -> pa.ListArray:
        """The packet table of each row of a batch."""
        return self._column(number, 1)

    def _column(self, number: int, column: int) -> Any:
        options = pa.ipc.IpcReadOptions(included_fields=[column])
        with pa.memory_map(str(self._facts(number))) as file:
            return pa.ipc.open_file(file, options=options).get_batch(0).column(0)

    def write_note(self, shard: int, note: dict[str, Any]) -> None:
        """Keep what writing a shard did."""
        write_atomic(self._note(shard), json.dumps(note).encode())

    def note(self, shard: int) -> dict[str, Any] | None:
        """What writing a shard did, None where that has not ended."""
        try:
            note: dict[str, Any] = json.loads(self._note(shard).read_bytes())
        except FileNotFoundError:
            return None
        return note

    def _inputs(self, number: int) -> Path:
        return self.folder / "inputs" / f"{number:08d}.jsonl"

    def _facts(self, number: int) -> Path:
        return self.folder / "facts" / f"{number:08d}.arrow"

    def _note(self, shard: int) -> Path:
        return self.folder / "notes" / f"{shard:08d}.json"

    def _write(self, path: Path, data: bytes | pa.Buffer) -> None:
        """Without waiting for the disk: what a power cut takes is found out and made anew."""
        part = self.scratch / f"{path.name}.{secrets.token_hex(4)}"  # two tasks may be at one batch
        try:
            part.write_bytes(data)
            os.replace(part, path)
        except OSError as error:
            raise storage_error(path, error) from error


def row_text(row: InputRow) -> str:
    """A row as one line of JSON, without where its file lies on this machine."""
    return _text(row, _PORTABLE_NAMES)


def row_from(text: str, path: str) -> InputRow:
    """The inverse of `row_text`."""
    return _row(json.loads(text) | {"path": path})


def _text(row: InputRow, names: tuple[str, ...]) -> str:
    """A row as one line of JSON, without what is empty."""
    kept = {name: value for name in names if (value := getattr(row, name)) not in (None, [], {})}
    return json.dumps(kept, default=str)  # further columns can be anything that parquet holds


def _row(record: dict[str, Any]) -> InputRow:
    if "byte_range" in record:
        record["byte_range"] = tuple(record["byte_range"])
    return InputRow(**record)
