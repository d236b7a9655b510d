"""Fold a dataset's generations into one: what is live is copied into new tars, nothing is decoded."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .. import console
from ..shards import ledger
from ..shards.files import atomic_file, make_folder, sha256_of
from ..shards.ledger import ledger_writer
from ..shards.manifest import Generation, Manifest, ShardEntry, read_manifest, write_manifest
from ..shards.reader import Dataset, members_of
from ..shards.tar import TarWriter
from .cluster import Effort, Task, ray_session, run_tasks
from .commit import finish, written_totals
from .config import CompactConfig
from .media.limits import task_memory_bytes
from .plan import PER_SAMPLE_BYTES
from .work import Work
from .write import write_companions

Place = tuple[int, int]
"""Shard and row of a sample."""


def compact(config: CompactConfig) -> Manifest:
    """Rewrite a dataset as one generation; it stays readable until the new one is whole.

    Raises:
        UsageError: no dataset, or another job at work on it.
        DamageError: a sample is not what its table says; the dataset is left as it was.
        StorageError: the disk refused.
    """
    folder = config.dataset.absolute()  # a worker's working folder is another one
    work = Work(folder)
    with work.lock():
        finish(folder)
        manifest = read_manifest(folder)
        if len(manifest.generations) <= 1 and not any(each.tombstones for each in manifest.generations):
            return manifest
        work.clear()
        work.open()
        shard_bytes = int(manifest.generations[-1].config["shard_mb"]) * 1_000_000
        shards = list(_cut(folder, shard_bytes))
        with (
            ray_session(config.address, config.workers) as session,
            console.progress(sum(map(len, shards)), "compact", "samples") as shown,
        ):
            tasks = (
                Task(f"writing shard {number}", (folder, places, number), task_memory_bytes())
                for number, places in enumerate(shards, manifest.next_shard)
            )
            run_tasks(_copy_task, tasks, session, shown, deadline_seconds=config.task_seconds)
        return _commit(work, manifest, len(shards))


def _cut(folder: Path, shard_bytes: int) -> Iterator[list[Place]]:
    """The live samples in dataset order, as many to a shard as fit by their sizes."""
    dataset = Dataset(folder)
    live, first, places, filled = dataset.live(), 0, list[Place](), 0
    for shard, size in enumerate(dataset.shard_sizes):
        members = dataset.shard_table(shard, ["members"]).column("members")
        for row in np.flatnonzero(live[first : first + size]).tolist():
            sample_bytes = PER_SAMPLE_BYTES + sum(member["size"] for member in members[row].as_py())
            if places and filled + sample_bytes > shard_bytes:
                yield places
                places, filled = [], 0
            places.append((shard, row))
            filled += sample_bytes
        first += size
    if places:
        yield places


def _copy_task(folder: Path, places: list[Place], number: int) -> Effort:
    dataset = Dataset(folder)
    path = folder / "shards" / f"{number:06d}.tar"
    tables: dict[int, pa.Table] = {}
    rows: list[dict[str, Any]] = []
    with atomic_file(path) as file:
        writer = TarWriter(file)
        for shard, row in places:
            if shard not in tables:
                tables = {shard: dataset.shard_table(shard)}
            record = tables[shard].drop_columns("packets").slice(row, 1).to_pylist()[0]
            record["packets"] = tables[shard].column("packets")[row].values
            parts = {m.ext: dataset.tar(shard).read(record["key"], m) for m in members_of(record["members"])}
            members = [asdict(member) for member in writer.add(record["key"], parts)]
            rows.append(record | {"members": members, "generation": 0})
        sha256 = writer.close()
    dataset.close()
    entry = write_companions(path, writer.index(), rows, sha256)
    Work(folder).write_note(number, asdict(entry))
    return Effort(len(rows), len(rows), entry.bytes)


def _commit(work: Work, manifest: Manifest, shards: int) -> Manifest:
    folder, waiting = work.folder.parent, work.folder / "commit"
    make_folder(waiting)
    first = manifest.next_shard
    notes = [work.note(number) for number in range(first, first + shards)]
    entries = [ShardEntry(**note) for note in notes if note is not None]
    rows = ledger.read_ledger(folder)
    zeros = pa.array(np.zeros(len(rows), dtype=np.int32))
    rows = rows.set_column(rows.schema.get_field_index("generation"), "generation", zeros)
    with ledger_writer(waiting / ledger.NAME) as write:
        for start in range(0, len(rows), 4096):
            write([ledger.row_of(record) for record in rows.slice(start, 4096).to_pylist()])
    last = manifest.generations[-1]
    compacted = replace(
        manifest,
        generations=[Generation(last.config, last.config_hash, entries)],
        ledger_sha256=sha256_of(waiting / ledger.NAME),
        totals=manifest.totals | written_totals(entries),
    )
    write_manifest(folder, compacted)
    finish(folder)
    return compacted
