"""Take existing WebDataset tars (video2dataset's, say) as a dataset: index, table and manifest, without copying a byte.

The tars are linked into the dataset, or named by symbolic links where they lie on another file system.
"""

import errno
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from .. import console
from ..shards import ledger
from ..shards.errors import DamageError, UsageError
from ..shards.files import COPY_BYTES, make_folder, sha256_of, storage_error
from ..shards.index import index_bytes
from ..shards.ledger import Clip, LedgerRow, ledger_writer
from ..shards.manifest import ADOPTED, Generation, Manifest, ShardEntry, hash_json, write_manifest
from ..shards.reader import members_of
from ..shards.schema import SAMPLE, Member, action_id
from ..shards.table import packet_table
from .bank.names.actions import canonical_name
from .cluster import Effort, Task, ray_session, run_tasks
from .commit import finish, written_totals
from .config import AdoptConfig
from .errors import MediaError
from .features.arrays import tensors_of
from .fetch import local_copy
from .media.limits import task_memory_bytes
from .plan import ledger_row, status_of
from .probing import sandbox_of
from .sources import InputRow, check_unique, open_source
from .sources.tars import FEATURE_EXTENSIONS, expand, tars_of
from .work import Work
from .write import write_companions


def adopt(config: AdoptConfig) -> Manifest:
    """Make a dataset of tars as they are.

    Raises:
        UsageError: no tar there, a sample name that two tars hold, or an output folder that is not empty.
        StorageError: the disk refused.
    """
    # a worker's working folder is another one
    config = replace(config, out=config.out.absolute(), label_map=config.label_map and config.label_map.absolute())
    out = config.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"out must be a new or empty folder, got {out}")
    folder = Path(config.tars)
    tars = tars_of(folder)[0] if folder.is_dir() else expand(config.tars)
    if not tars:
        raise UsageError(f"tars must be a folder with .tar files, a tar or a brace pattern, got {config.tars}")
    work = Work(out)
    with work.lock():
        work.open()
        tars = [os.path.abspath(tar) for tar in tars]
        with (
            ray_session(config.address, config.workers) as session,
            console.progress(len(tars), "adopt", "tars") as shown,
        ):
            tasks = (
                Task(f"adopting {tar}", (tar, number, config), task_memory_bytes()) for number, tar in enumerate(tars)
            )
            run_tasks(_adopt_task, tasks, session, shown, deadline_seconds=config.task_seconds)
        return _commit(work, len(tars), config)


def _adopt_task(tar: str, number: int, config: AdoptConfig) -> Effort:
    work = Work(config.out)
    path = config.out / "shards" / f"{number:06d}.tar"
    make_folder(path.parent)
    _link(Path(tar), path)
    places = _places(tar)
    key_at = {member[1:]: key for key, members in places.items() for member in members}
    taken: dict[str, dict[str, Any]] = {}
    lines: list[LedgerRow] = []
    for row in open_source(tar, "webdataset", label_map=config.label_map, features=True):
        name = f"{number:06d}/{row.input_id}"  # tars of one name may lie in several folders
        key = key_at.get(row.byte_range or (0, 0), "")
        try:
            if row.fault is None and (key in taken or not key.isascii() or " " in key):
                raise MediaError("unreadable", f"{key!r} must be one sample's name, in ASCII and without spaces")
            facts = _facts(row, config, work) if _shows_video(row) else _feature_facts(row, config, work)
        except MediaError as error:
            status = status_of(error.reason)
            line = ledger_row(row, {}, status, error.reason, error.detail, [Clip(key, status, error.reason)])
        else:
            taken[key] = _table_row(key, row, facts, places[key], name)
            line = ledger_row(row, facts, "ok", "", "", [Clip(key, "ok", "")])
        lines.append(replace(line, input_id=name))
    entry = _describe(path, [taken[key] for key in places if key in taken])
    with ledger_writer(work.folder / "notes" / f"{number:08d}.parquet") as write:
        write(lines)
    work.write_note(number, {"entry": entry and asdict(entry)})
    return Effort(1, 1, os.path.getsize(tar))


def _link(tar: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    try:
        os.link(tar, path)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise storage_error(path, error) from error
        path.symlink_to(tar)


def _places(tar: str) -> dict[str, list[tuple[str, int, int]]]:
    """Every sample of a tar: (extension, offset, size) of its members, up to where the tar can be read."""
    from webdataset.tariterators import base_plus_ext

    places: dict[str, list[tuple[str, int, int]]] = {}
    try:
        with tarfile.open(tar, "r:") as archive:
            for info in archive:
                key, ext = base_plus_ext(info.name)
                if key is not None and ext is not None and info.isreg():
                    places.setdefault(key, []).append((ext, info.offset_data, info.size))
    except tarfile.TarError:
        pass  # what lies behind the damage is told by the source's row for it
    return places


def _facts(row: InputRow, config: AdoptConfig, work: Work) -> dict[str, Any]:
    """What probing finds, with the packet table; offsets count from the start of the video."""
    sandbox = sandbox_of(config.video_cpu_seconds, config.video_memory_mb)
    with local_copy(row, work.scratch, max_bytes=config.max_video_mb * 1_000_000) as path:
        facts: dict[str, Any] = sandbox.call("look", path=str(path), validate=config.validate, table=True)
    return facts | {"packets": packet_table(facts["packets"])}


def _shows_video(row: InputRow) -> bool:
    return not row.uri.lower().endswith(FEATURE_EXTENSIONS)


def _feature_facts(row: InputRow, config: AdoptConfig, work: Work) -> dict[str, Any]:
    """Of a sample that holds features and no video: nothing, once they have been read."""
    with local_copy(row, work.scratch, max_bytes=config.max_video_mb * 1_000_000) as path:
        try:
            tensors_of(path.read_bytes(), os.path.splitext(row.uri)[1].lower(), "frames")
        except DamageError as error:
            raise MediaError("damaged", str(error)) from None
    return {"bytes": 0, "packets": None}


def _table_row(
    key: str, row: InputRow, facts: dict[str, Any], members: list[tuple[str, int, int]], name: str
) -> dict[str, Any]:
    assert row.byte_range is not None
    video_first = sorted(members, key=lambda member: member[1] != row.byte_range[0])  # type: ignore[index]
    with open(row.path, "rb") as file:
        described = [asdict(Member(ext, offset, size, _crc32(file, offset, size))) for ext, offset, size in video_first]
    named = {
        "key": key,
        "members": described,
        "labels": row.labels,
        "action_id": action_id(canonical_name(row.labels[0])) if row.labels else None,
        "split": row.split,
        "caption": row.caption,
        "input_id": name,
        "source": row.uri,
        "generation": 0,
    }
    return {field: facts.get(field) for field in SAMPLE.names} | named


def _crc32(file: BinaryIO, offset: int, size: int) -> int:
    file.seek(offset)
    crc = 0
    while size:
        piece = file.read(min(size, COPY_BYTES))
        crc, size = zlib.crc32(piece, crc), size - len(piece)
    return crc


def _describe(tar: Path, rows: list[dict[str, Any]]) -> ShardEntry | None:
    if not rows:
        tar.unlink()
        return None
    index = index_bytes([(row["key"], members_of(row["members"])) for row in rows])
    return write_companions(tar, index, rows, sha256_of(tar))


def _commit(work: Work, tars: int, config: AdoptConfig) -> Manifest:
    out, waiting = work.folder.parent, work.folder / "commit"
    make_folder(waiting)
    counts, classes = Counter[str](), set[str]()
    entries: list[ShardEntry] = []
    with ledger_writer(waiting / ledger.NAME) as write:
        for number in range(tars):
            note = work.note(number)
            assert note is not None
            if note["entry"] is not None:
                entries.append(ShardEntry(**note["entry"]))
                labels = pq.read_table(out / "shards" / f"{number:06d}.parquet", columns=["labels"])
                classes.update(label for row in labels["labels"].to_pylist() for label in row)
            rows = pq.read_table(work.folder / "notes" / f"{number:08d}.parquet", schema=ledger.SCHEMA)
            counts.update(rows["status"].to_pylist())
            write([ledger.row_of(record) for record in rows.to_pylist()])
    _check_keys(out, entries)
    totals = ledger.count([]) | dict(counts) | {"inputs": counts.total()} | written_totals(entries)
    record: dict[str, Any] = {"preset": ADOPTED, "validate": config.validate}
    generation = Generation(record, hash_json(record), entries)
    manifest = Manifest(sorted(classes), [generation], sha256_of(waiting / ledger.NAME), totals)
    write_manifest(out, manifest)
    finish(out)
    return manifest


def _check_keys(out: Path, entries: list[ShardEntry]) -> None:
    tables = [pq.read_table(out / "shards" / f"{entry.name}.parquet", columns=["key"]) for entry in entries]

    def keys() -> Iterator[str]:
        for table in tables:
            yield from table["key"].to_pylist()

    check_unique(keys, "the tars: `adopt` needs sample names that differ over all tars, `ingest` gives its own")
