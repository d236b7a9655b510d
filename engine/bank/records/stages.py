"""The stages that `bank build` and `bank add` share: read, merge, and what is written once both are done."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .... import console
from ....shards.bank.files import ACTIONS, LEDGER, FileEntry, Part, file_entry
from ....shards.errors import ReelmillError
from ....shards.files import atomic_file
from ....shards.schema import action_id
from ...cluster import Effort, Session, Task, ray_session, run_tasks
from .config import RunOptions
from .gather import Seen, gather, part_of, too_many_names
from .inputs import InputFile, chunks_of
from .merging import PartInput, merge_part
from .record import Chunk
from .work import BankWork, Plan

INLINE_BYTES = 32_000_000
"""Of records: up to here starting Ray takes longer than the work."""
GATHER_MEMORY_BYTES = 500_000_000
MERGE_MEMORY_BYTES = 300_000_000
MERGE_BYTES_PER_BYTE = 8
LEDGER_GROUP_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs tasks: on Ray, or here where the input is small."""

    session: Session | None
    deadline_seconds: float

    def run(self, function: Callable[..., Effort], tasks: Iterable[Task], shown: console.Progress) -> None:
        """Run `function(*task.arguments)` for every task."""
        if self.session is not None:
            run_tasks(function, tasks, self.session, shown, deadline_seconds=self.deadline_seconds)
            return
        for task in tasks:
            done = function(*task.arguments)
            shown.add_bytes(done.bytes)
            shown.update(done.items)


@contextmanager
def runner(config: RunOptions, files: list[InputFile]) -> Iterator[Runner]:
    """What runs a job's tasks."""
    if config.address is None and sum(file.bytes for file in files) < INLINE_BYTES:
        yield Runner(None, config.task_seconds)
        return
    with ray_session(config.address, config.workers, config.memory_mb) as session:
        yield Runner(session, config.task_seconds)


@dataclass(slots=True)
class Gathered:
    """What reading gave, of all chunks."""

    seen: Seen = field(default_factory=Seen)
    records: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    parts: dict[int, list[tuple[int, str, int, list[int]]]] = field(default_factory=dict)
    """Part → (chunk, file, rows of the file before the chunk, batches)."""
    part_rows: Counter[int] = field(default_factory=Counter)
    befores: list[int] = field(default_factory=list)
    """Of every chunk, how many records of its file come before it."""
    said: str = ""
    """A hash of what the records said."""


def gather_all(work: BankWork, plan: Plan, run: Runner) -> Gathered:
    """Read every chunk that an earlier run of this job has not read yet.

    Raises:
        StorageError: the disk refused, or a file changed.
        UsageError: more names than a bank may have.
    """
    digest, chunks = plan.digest(), list(chunks_of(plan.files))
    with console.progress(None, "read", "records") as shown:

        def tasks() -> Iterator[Task]:
            for number, chunk in enumerate(chunks):
                note = work.note("read", number)
                if note is not None:
                    shown.update(note["records"])
                    continue
                arguments = (work.out, digest, number, chunk)
                yield Task(f"reading {plan.files[chunk.file].name}", arguments, GATHER_MEMORY_BYTES)

        run.run(gather, tasks(), shown)
    return _gathered(work, plan, chunks)


def _gathered(work: BankWork, plan: Plan, chunks: list[Chunk]) -> Gathered:
    found, said, before = Gathered(), hashlib.blake2b(digest_size=16), 0
    for number, chunk in enumerate(chunks):
        note = work.note("read", number)
        assert note is not None, f"chunk {number} has no note"
        before = before if number and chunks[number - 1].file == chunk.file else 0
        found.befores.append(before)
        said.update("".join(note["said"]).encode())
        found.reasons.update(note["reasons"])
        for spelling, canonical, source in note["spellings"]:
            found.seen.spellings.setdefault(spelling, (canonical, source))
        if plan.known is None and len(found.seen.spellings) > plan.max_names:
            raise too_many_names(plan.max_names)
        for canonical, sources in note["origins"].items():
            found.seen.add_origins(canonical, sources)
        batches: dict[int, list[int]] = {}
        for place, (part, rows) in enumerate(note["batches"]):
            batches.setdefault(part, []).append(place)
            found.part_rows[part] += rows
        for part, places in batches.items():
            found.parts.setdefault(part, []).append((number, plan.files[chunk.file].name, before, places))
        before += note["records"]
        found.records += note["records"]
    found.said = said.hexdigest()
    return found


def merge_all(
    work: BankWork, plan: Plan, found: Gathered, run: Runner, old: Sequence[Part], canonical: Mapping[int, str]
) -> dict[int, dict[str, Any]]:
    """Merge every part with new rows; returns the note of each.

    Args:
        work: the job's scratch folder.
        plan: the job's.
        found: what reading gave.
        run: runs the tasks.
        old: parts that the bank has; the job's are as many, or a multiple.
        canonical: action id → name, of every action.

    Raises:
        StorageError: the disk refused.
        DamageError: an old part is not what it was.
    """
    digest, each = plan.digest(), sum(file.bytes for file in plan.files) // max(1, found.records)
    if len(old) != plan.parts:  # every part is written
        for number in range(plan.parts):
            found.parts.setdefault(number, [])
    actions: dict[int, dict[int, str]] = {}
    for number, name in canonical.items():
        actions.setdefault(part_of(number, plan.parts), {})[number] = name
    with console.progress(sum(found.part_rows.values()), "merge", "rows") as shown:

        def tasks() -> Iterator[Task]:
            # the largest first: none is left to run alone at the end
            for number in sorted(found.parts, key=lambda part: (-found.part_rows[part], part)):
                note = work.note("parts", number)
                if note is not None and _is_written(work.out, note):
                    shown.update(found.part_rows[number])
                    continue
                before = old[number * len(old) // plan.parts] if old else None
                source = PartInput(number, found.parts[number], actions.get(number, {}), before)
                size = (work.out / before.texts).stat().st_size if before is not None else 0
                size += each * found.part_rows[number]
                memory = MERGE_MEMORY_BYTES + MERGE_BYTES_PER_BYTE * size
                yield Task(f"merging part {number}", (work.out, digest, source), memory)

        run.run(merge_part, tasks(), shown)
    notes = {number: work.note("parts", number) for number in sorted(found.parts)}
    return {number: note for number, note in notes.items() if note is not None}


def _is_written(out: Path, note: Mapping[str, Any]) -> bool:
    return all(
        (out / name).is_file() and file_entry(out / name) == FileEntry(*told) for name, told in note["files"].items()
    )


def canonical_names(canonicals: Iterable[str]) -> dict[int, str]:
    """Action id → canonical name.

    Raises:
        ReelmillError: two names have one id.
    """
    names: dict[int, str] = {}
    for canonical in canonicals:
        if names.setdefault(action_id(canonical), canonical) != canonical:
            raise ReelmillError(
                f"actions {canonical!r} and {names[action_id(canonical)]!r} have the same id; rename one"
            )
    return names


def write_ledger(out: Path, befores: list[int], parts: Iterable[int], name: str) -> Effort:
    """Gather the ledger out of what the tasks left: what reading set aside in input order, then duplicates by part."""
    work = BankWork(out)
    with atomic_file(work.out / name) as file, pq.ParquetWriter(file, LEDGER, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for batch in _ledger_batches(work, befores, parts):
            waiting.append(batch)
            rows += batch.num_rows
            if sum(each.num_rows for each in waiting) >= LEDGER_GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting.clear()
        writer.write_table(pa.Table.from_batches(waiting, LEDGER))
    return Effort(rows, rows, (work.out / name).stat().st_size)


def _ledger_batches(work: BankWork, befores: list[int], parts: Iterable[int]) -> Iterator[pa.RecordBatch]:
    for number, before in enumerate(befores):
        with pa.memory_map(str(work.aside(number))) as mapped:
            reader = pa.ipc.open_file(mapped)
            for place in range(reader.num_record_batches):
                batch = reader.get_batch(place)
                yield batch.set_column(1, LEDGER.field("row"), pc.add(batch.column(1), before + 1))
    for part in parts:
        with pa.memory_map(str(work.duplicates(part))) as mapped:
            reader = pa.ipc.open_file(mapped)
            yield from (reader.get_batch(place) for place in range(reader.num_record_batches))


def write_actions(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the table of actions, from rows of `ACTIONS`."""
    with atomic_file(path) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=ACTIONS), file, compression="zstd")
