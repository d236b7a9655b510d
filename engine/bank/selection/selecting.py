"""The end of `bank select`: the parts of the new bank, written by tasks, and what lies beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

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
from ....shards.errors import DamageError
from ....shards.files import COPY_BYTES, atomic_file, make_folder
from ...cluster import Effort
from ..records.merging import PartWriter
from ..records.stages import write_actions
from ..rows import DescriptionRows
from ..scratch import Note, Scratch
from .config import SelectConfig
from .relevance import best
from .scoring import Piece, read_scores

Actions = Sequence[Mapping[str, Any]]
"""Rows of the table of actions."""


def kept_of(actions: Actions, top_k: int) -> list[int]:
    """How many descriptions each action keeps."""
    return [min(top_k, row["descriptions"]) for row in actions]


def parts_kept(record: BankRecord, kept: int) -> int:
    """Parts of a bank of which so many descriptions are kept: in proportion."""
    rows = sum(part.rows for part in record.parts)
    return max(1, -(-len(record.parts) * kept // max(rows, 1)))


def is_written(out: Path, note: Note) -> bool:
    """Whether the files that a note tells of are there, to the byte."""
    return all(
        (out / name).is_file() and file_entry(out / name) == FileEntry(*told) for name, told in note["files"].items()
    )


def select_part(
    out: Path,
    bank: Path,
    parts: list[Part],
    number: int,
    spans: list[tuple[int, int, int]],
    pieces: list[Piece],
    top_k: int,
    generation: int,
) -> Effort:
    """Write one part of the new bank: a task.

    Args:
        out: the new bank.
        bank: the old one.
        parts: its parts.
        number: of the part to write.
        spans: (action id, first row, descriptions) of its actions.
        pieces: those with the scores of these rows.
        top_k: descriptions that an action keeps at most.
        generation: of the bank, part of its files' names.

    Raises:
        DamageError: a table does not read.
        StorageError: the disk refused.
    """
    work = Scratch(out)
    stem = f"{DESCRIPTIONS_FOLDER}/{number:06d}"
    names = [versioned(f"{stem}.{kind}", generation) for kind in ("parquet", "arrow")]
    rows = DescriptionRows(bank, parts, ["text", "source", "sentences"])
    unscored, nameless = 0, list[int]()
    with PartWriter.open(out / names[0], out / names[1]) as written:
        for action, first, count in spans:
            scores = read_scores(work, pieces, first, first + count)
            places = best(scores, top_k)
            table = rows.take(first + places)
            table = table.append_column("relevance", pa.array(scores[places], pa.float32(), from_pandas=True))
            written.add(action, table.column("text").to_pylist(), table)
            missing = int(np.isnan(scores).sum())
            unscored += missing
            nameless += [action] if missing == count > 0 else []
    entries = {name: file_entry(out / name) for name in names}
    files = {name: [entry.bytes, entry.sha256] for name, entry in entries.items()}
    note: Note = {"rows": written.rows, "table": names[0], "texts": names[1], "files": files}
    work.write_note("parts", number, note | {"unscored": unscored, "nameless": nameless})
    return Effort(written.rows, written.rows, sum(entry.bytes for entry in entries.values()))


def commit_selected(
    work: Scratch, config: SelectConfig, record: BankRecord, actions: Actions, pieces: int
) -> BankRecord:
    """Write what is left to write, and `bank.json` last; returns what it says.

    Args:
        work: the job's scratch folder, with a note on every part.
        config: the job's.
        record: of the bank that was selected from.
        actions: its actions.
        pieces: how many were scored.

    Raises:
        DamageError: a file that is carried over is not what it was.
        StorageError: the disk refused.
    """
    kept = kept_of(actions, config.top_k)
    notes = [_note(work, "parts", number) for number in range(parts_kept(record, sum(kept)))]
    parts = [Part(note["rows"], note["table"], note["texts"]) for note in notes]
    files = {name: FileEntry(*told) for note in notes for name, told in note["files"].items()}
    table = versioned("actions.parquet", record.generation)
    write_actions(work.out / table, _rows(actions, kept))
    files[table] = file_entry(work.out / table)
    gone = {record.actions, *(part.table for part in record.parts), *(part.texts for part in record.parts)}
    for name in sorted(set(record.files) - gone):
        _carry(config.bank / name, work.out / name, record.files[name])
        files[name] = record.files[name]
    aside = record.totals["records"] - record.totals["descriptions"]
    selected = replace(
        record,
        options=dict(record.options) | {"select": _how(work, config, record, actions, notes, pieces)},
        totals=dict(record.totals) | {"descriptions": sum(kept), "records": sum(kept) + aside},
        actions=table,
        parts=parts,
        files=dict(sorted(files.items())),
    )
    write_record(work.out, selected)
    return selected


def _note(work: Scratch, stage: str, number: int) -> Note:
    note = work.note(stage, number)
    assert note is not None, f"{stage} {number} has no note"
    return note


def _rows(actions: Actions, kept: Sequence[int]) -> list[dict[str, Any]]:
    rows, first = [], 0
    for row, count in zip(actions, kept, strict=True):
        rows.append({**row, "first_row": first, "descriptions": count})
        first += count
    return rows


def _how(
    work: Scratch, config: SelectConfig, record: BankRecord, actions: Actions, notes: Sequence[Note], pieces: int
) -> Note:
    names = {row["action_id"]: row["canonical"] for row in actions}
    return {
        "top_k": config.top_k,
        "model": config.model,
        "method": _note(work, "vectors", 0),
        "of": record.totals["descriptions"],
        "unscored": sum(note["unscored"] for note in notes),
        "nameless": [names[number] for note in notes for number in note["nameless"]],
        "cut": sum(_note(work, "scores", number)["cut"] for number in range(pieces)),
    }


def _carry(source: Path, target: Path, entry: FileEntry) -> None:
    """Copy a file of the bank, and hold it against what `bank.json` says."""
    make_folder(target.parent)
    with source.open("rb") as file, atomic_file(target) as copy:
        while piece := file.read(COPY_BYTES):
            copy.write(piece)
    if file_entry(target) != entry:
        raise DamageError(f"{source} is not what {NAME} says: its sha256 differs")
