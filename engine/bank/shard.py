"""A Parquet bank as WebDataset tars by action block (`shards.bank_tars` says what lies in them).

Every tar is a task: which blocks it takes follows from the bank alone, so the bytes do not depend on the workers or on
kills. A tar appears whole or not at all; what names it (`dataset.json`) is written by the caller, last.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ... import console
from ...shards import ledger
from ...shards.bank import read_actions
from ...shards.bank.files import BankRecord, Part, check_files
from ...shards.bank.tars import BLOCK, TABLES, TABLES_KEY, block_key
from ...shards.files import atomic_file, make_folder, sha256_of, write_atomic
from ...shards.manifest import NAME as MANIFEST_NAME
from ...shards.manifest import BankShard, Manifest, write_manifest
from ...shards.tar import TarWriter
from ..cluster import Effort, Task, ray_session
from .config import ShardConfig
from .records.merging import BATCH_ROWS
from .records.stages import Runner
from .rows import DescriptionRows, check_part, open_record, text_batches
from .scratch import Scratch, check_out

SHARD_BYTES = 256_000_000
BLOCK_BYTES = 8_000_000
"""Of texts: an action with more has several blocks."""
INLINE_ROWS = 200_000
CHECK_MEMORY_BYTES = 100_000_000
WRITE_MEMORY_BYTES = 500_000_000
_ROW_BYTES = 64  # of a row beside its text, roughly
_STAGE = "bank"


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """Some rows of one action."""

    facts: Mapping[str, Any]
    """As the block's json says them."""
    first: int
    """Row, counted through the parts."""


@dataclass(slots=True)
class TarPlan:
    """What one tar holds."""

    blocks: list[BlockPlan] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    bytes: int = 0
    """Estimated."""


@dataclass(frozen=True, slots=True)
class Sharded:
    """What was written."""

    shards: list[BankShard]
    actions: int
    descriptions: int


def shard_bank(config: ShardConfig) -> Sharded:
    """Write a bank as tars into a folder of their own: a dataset that carries a bank, and no videos.

    Raises:
        UsageError: no bank there, or `out` holds something.
        DamageError: a file of the bank is not what it was.
        StorageError: the disk refused.
    """
    record = open_record(config.bank)
    check_out(config.out, MANIFEST_NAME, {"bank", ledger.NAME})
    work, plan = Scratch(config.out), {"bank": str(config.bank.absolute())}
    with work.lock(), _runner(config, sum(part.rows for part in record.parts)) as run:
        work.open(plan, resume=config.resume)
        made = write_bank_tars(config.bank, config.out, spellings={}, run=run)
        keep = {Path(shard.uri).stem for shard in made}
        for path in (config.out / "bank").iterdir():  # of a job on the bank as it was before
            if path.name.startswith(".") or path.stem not in keep:
                path.unlink()
        with ledger.ledger_writer(config.out / ledger.NAME) as write_rows:
            write_rows([])
        totals = ledger.count([]) | {"inputs": 0, "samples": 0, "bytes": 0}
        digest = sha256_of(config.out / ledger.NAME)
        write_manifest(config.out, Manifest([], [], digest, totals, made))
        work.clear()
    return Sharded(made, record.totals["actions"], record.totals["descriptions"])


def write_bank_tars(
    bank: Path, dataset: Path, *, spellings: Mapping[str, int], first: int = 0, run: Runner | None = None
) -> list[BankShard]:
    """Write a bank into a dataset's folder as bank/000000.tar …; actions by id.

    Tars that an earlier run of the same job has written whole stay; its notes lie in the dataset's `.work/`.

    Args:
        bank: a Parquet bank.
        dataset: the folder of the dataset, locked by the caller.
        spellings: the dataset's labels → action id; they become aliases, so that the carried bank finds them.
        first: number of the first tar.
        run: runs the tasks; without it they go to the Ray that this process is connected to, or to a local one, or are
            done here where the bank is small.

    Raises:
        DamageError: a file of the bank is not what it was.
        StorageError: the disk refused.
    """
    record = open_record(bank)
    if run is None:
        with _runner(None, sum(part.rows for part in record.parts)) as own:
            return write_bank_tars(bank, dataset, spellings=spellings, first=first, run=own)
    bank, work = bank.absolute(), Scratch(dataset)
    make_folder(work.out / "bank")
    tables = [f"{name}.parquet" for name in TABLES if f"{name}.parquet" in record.files]
    check_files(bank, record, [record.actions, *tables], content=True)
    actions = read_actions(bank, record)
    with console.progress(sum(part.rows for part in record.parts), "check the bank", "rows") as shown:
        numbers = range(len(record.parts))
        run.run(check_part, (Task(f"checking part {n}", (bank, n), CHECK_MEMORY_BYTES) for n in numbers), shown)
    plans = plan_tars(bank, record, _named(actions, spellings), tables)
    with console.progress(sum(part.rows for part in record.parts), "write the bank", "rows") as shown:

        def tasks() -> Iterator[Task]:
            for number, plan in enumerate(plans, first):
                digest = _digest(record, plan)
                if _is_written(work, number, digest):
                    shown.update(sum(block.facts["rows"] for block in plan.blocks))
                else:
                    arguments = (work.out, bank, record.parts, number, plan, digest)
                    yield Task(f"writing bank tar {number}", arguments, WRITE_MEMORY_BYTES)

        run.run(write_tar, tasks(), shown)
    shards = []
    for number in range(first, first + len(plans)):
        note = work.note(_STAGE, number)
        assert note is not None, f"tar {number} has no note"
        shards.append(BankShard(**note["shard"]))
    return shards


@contextmanager
def _runner(config: ShardConfig | None, rows: int) -> Iterator[Runner]:
    seconds = 3600.0 if config is None else config.task_seconds
    if (config is None or config.address is None) and rows <= INLINE_ROWS:
        yield Runner(None, seconds)
        return
    options = (None, 0) if config is None else (config.address, config.workers, config.memory_mb)
    with ray_session(*options) as session:
        yield Runner(session, seconds)


def _named(actions: Sequence[Mapping[str, Any]], spellings: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    labels: dict[int, set[str]] = {}
    for label, number in spellings.items():
        labels.setdefault(number, set()).add(label)
    for row in actions:
        yield {**row, "aliases": sorted({*row["aliases"], *labels.get(row["action_id"], ())})}


def plan_tars(
    bank: Path, record: BankRecord, actions: Iterable[Mapping[str, Any]], tables: Sequence[str]
) -> list[TarPlan]:
    """Which blocks go into which tar; follows from the bank and the actions' names.

    Raises:
        DamageError: the texts do not read.
    """
    sizes = _Sizes(bank, record.parts)
    plans = [TarPlan(tables=list(tables), bytes=sum(record.files[name].bytes for name in tables))]
    for row in actions:
        cuts = sizes.cut(row["descriptions"])
        facts = {name: row[name] for name in ("action_id", "name", "canonical", "aliases", "origins", "descriptions")}
        first = row["first_row"]
        for number, (rows, size) in enumerate(cuts):
            if plans[-1].blocks and plans[-1].bytes + size > SHARD_BYTES:
                plans.append(TarPlan())
            told = facts | {"block": number, "blocks": len(cuts), "rows": rows}
            plans[-1].blocks.append(BlockPlan(told, first))
            plans[-1].bytes += size
            first += rows
    return plans


class _Sizes:
    """How large texts are, front to back."""

    def __init__(self, bank: Path, parts: Sequence[Part]) -> None:
        batches = (batch for part in parts for batch in text_batches(bank / part.texts, 0, part.rows))
        self._batches = (pc.binary_length(batch).to_numpy().astype(np.int64) for batch in batches)
        self._left = np.empty(0, np.int64)

    def cut(self, rows: int) -> list[tuple[int, int]]:
        """The next rows in blocks of at most `BLOCK_BYTES` of text: (rows, bytes) of each; one block without rows."""
        blocks, count, size = list[tuple[int, int]](), 0, 0
        while rows:
            if not len(self._left):
                self._left = next(self._batches)
            ends = np.cumsum(self._left[:rows]) + size
            fit = int(np.searchsorted(ends, BLOCK_BYTES, side="right"))
            if fit == 0 and count == 0:
                fit = 1
            if fit:
                count, size = count + fit, int(ends[fit - 1])
                self._left, rows = self._left[fit:], rows - fit
            if fit < len(ends):
                blocks.append((count, size + _ROW_BYTES * count))
                count = size = 0
        if count or not blocks:
            blocks.append((count, size + _ROW_BYTES * count))
        return blocks


def _digest(record: BankRecord, plan: TarPlan) -> str:
    """Names the bytes of a tar."""
    parts = [[part.rows, record.files[part.table].sha256] for part in record.parts] if plan.blocks else []
    told = [plan.blocks[0].first if plan.blocks else 0, [block.facts for block in plan.blocks], parts]
    tables = {name: record.files[name].sha256 for name in plan.tables}
    text = json.dumps([told, tables, pa.__version__], sort_keys=True, default=dict)
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def _is_written(work: Scratch, number: int, digest: str) -> bool:
    note = work.note(_STAGE, number)
    if note is None or note["digest"] != digest:
        return False
    tar = work.out / note["shard"]["uri"]
    return (
        all(path.is_file() for path in (tar, tar.with_suffix(".idx"))) and tar.stat().st_size == note["shard"]["bytes"]
    )


def write_tar(out: Path, bank: Path, parts: list[Part], number: int, plan: TarPlan, digest: str) -> Effort:
    """Write one tar of a bank with its index: a task.

    Raises:
        DamageError: a table of the bank does not read.
        StorageError: the disk refused.
    """
    work = Scratch(out)
    rows = DescriptionRows(bank, parts, BLOCK.names)
    path = out / "bank" / f"{number:06d}.tar"
    done = 0
    with atomic_file(path) as file:
        writer = TarWriter(file)
        if plan.tables:
            writer.add(TABLES_KEY, {name: bank / name for name in plan.tables})
        for block in plan.blocks:
            count = block.facts["rows"]
            facts = json.dumps(dict(block.facts), sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
            table = rows.take(np.arange(block.first, block.first + count))
            key = block_key(block.facts["action_id"], block.facts["block"])
            writer.add(key, {"json": facts, "arrow": _block_file(table)})
            done += count
        sha256 = writer.close()
    index = path.with_suffix(".idx")
    write_atomic(index, writer.index())
    shard = BankShard(f"bank/{path.name}", writer.bytes, sha256, sha256_of(index))
    work.write_note(_STAGE, number, {"digest": digest, "shard": asdict(shard)})
    return Effort(done, done, writer.bytes)


def _block_file(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, BLOCK) as writer:
        for first in range(0, len(table), BATCH_ROWS):
            writer.write_batch(table.slice(first, BATCH_ROWS).combine_chunks().to_batches()[0])
    content: bytes = sink.getvalue().to_pybytes()
    return content
