"""The end of a bank's job: actions, merges, ledger, then `bank.json`; and nothing beside them."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .... import console
from ....shards.bank.files import (
    DESCRIPTIONS_FOLDER,
    NAME,
    BankRecord,
    FileEntry,
    Part,
    file_entry,
    versioned,
    write_record,
)
from ....shards.files import write_atomic
from ...cluster import Task
from .catalogue import Catalogue
from .gather import status_of
from .stages import Gathered, Runner, write_actions, write_ledger
from .work import BankWork, Plan

LEDGER_MEMORY_BYTES = 300_000_000
_OURS = re.compile(r"(actions|ledger)(\.\d+)?\.parquet|merges(\.\d+)?\.csv|\d{6,}(\.\d+)?\.(parquet|arrow)|\..*\.part")


def commit(
    work: BankWork,
    plan: Plan,
    run: Runner,
    found: Gathered,
    merged: Mapping[int, Mapping[str, Any]],
    catalogue: Catalogue,
    base: BankRecord | None,
) -> BankRecord:
    """Write what is left to write, and `bank.json` last; returns what it says.

    Args:
        work: the job's scratch folder.
        plan: the job's.
        run: runs tasks.
        found: what reading gave.
        merged: the notes of the parts that were merged; one that took nothing in stays as it was.
        catalogue: the actions, with what each part now holds.
        base: the bank to which something is added.

    Raises:
        StorageError: the disk refused.
    """
    generation = plan.generation
    names = [versioned(name, generation) for name in ("actions.parquet", "merges.csv", "ledger.parquet")]
    with console.progress(None, "ledger", "rows") as shown:
        arguments = (work.out, found.befores, sorted(merged), names[2])
        run.run(write_ledger, [Task("writing the ledger", arguments, LEDGER_MEMORY_BYTES)], shown)
    write_actions(work.out / names[0], catalogue.rows())
    write_atomic(work.out / names[1], catalogue.merges(plan.names))
    same_ranges = base is not None and len(base.parts) == plan.parts
    parts = list(base.parts) if base is not None and same_ranges else []
    files = _carried(base, same_ranges)
    for number, note in merged.items():
        if same_ranges and not note["added"]:
            continue
        if same_ranges:
            del files[parts[number].table], files[parts[number].texts]
        parts[number : number + 1] = [Part(note["rows"], note["table"], note["texts"])]
        files |= {name: FileEntry(*told) for name, told in note["files"].items()}
    files |= {name: file_entry(work.out / name) for name in names}
    reasons = Counter(dict(base.reasons) if base is not None else {}) + found.reasons
    for note in merged.values():
        reasons += Counter(note["reasons"])
    kept = sum(part.rows for part in parts)
    records = found.records + (base.totals["records"] if base is not None else 0)
    record = BankRecord(
        options=plan.options,
        totals=_totals(records, kept, len(catalogue.canonicals), reasons),
        reasons=dict(sorted(reasons.items())),
        actions=names[0],
        merges=names[1],
        ledgers=[*(base.ledgers if base is not None else []), names[2]],
        parts=parts,
        files=dict(sorted(files.items())),
        inputs=[*(base.inputs if base is not None else []), found.said],
        generation=generation,
    )
    write_record(work.out, record)
    sweep(work.out, record)
    return record


def _carried(base: BankRecord | None, with_parts: bool) -> dict[str, FileEntry]:
    """The files of an earlier generation that stay."""
    if base is None:
        return {}
    gone = {base.actions, base.merges}
    if not with_parts:
        gone |= {name for part in base.parts for name in (part.table, part.texts)}
    return {name: entry for name, entry in base.files.items() if name not in gone}


def _totals(records: int, kept: int, actions: int, reasons: Mapping[str, int]) -> dict[str, int]:
    totals = {"actions": actions, "records": records, "descriptions": kept, "duplicate": 0, "filtered": 0, "failed": 0}
    for reason, count in reasons.items():
        totals["duplicate" if reason in ("exact", "near") else status_of(reason)] += count  # type: ignore[arg-type]
    aside = totals["duplicate"] + totals["filtered"] + totals["failed"]
    assert records == kept + aside, f"{records} records are not {kept} kept and {aside} set aside"
    return totals


def sweep(out: Path, record: BankRecord | None) -> None:
    """Remove files under our names that `bank.json` does not list."""
    listed = set() if record is None else set(record.files)
    for folder in (out, out / DESCRIPTIONS_FOLDER):
        for path in folder.glob("*"):
            name = path.relative_to(out).as_posix()
            if _OURS.fullmatch(path.name) and name not in listed and path.is_file() and name != NAME:
                path.unlink()
