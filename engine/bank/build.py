"""Records of (action, text, source) and a label list → a Parquet bank."""

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ... import console
from ...shards.bank import ACTIONS, DESCRIPTIONS, NAME, VERSION, text_hash
from ...shards.errors import UsageError
from ...shards.files import atomic_file, make_folder, sha256_of, write_atomic
from ...shards.schema import action_id
from ..config import BankBuildConfig
from ..sources import read_records
from .actions import canonical_name

RULES = "safe"
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


@dataclass(slots=True)
class _Entry:
    """One canonical action while the bank is built."""

    name: str
    aliases: set[str] = field(default_factory=set)
    origins: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    """Text → source; the first source of a repeated text stays."""


@dataclass(frozen=True, slots=True)
class BankTotals:
    """What a build took and made."""

    actions: int
    descriptions: int
    repeated: int
    rejected: int


def build_bank(config: BankBuildConfig) -> BankTotals:
    """Build a bank.

    Raises:
        UsageError: the records or labels do not read, a row lacks its action or text, or `out` holds something.
        StorageError: the disk refused.
    """
    out = config.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"out must be a new or empty folder, but {out} holds something")
    entries = _labels(config.labels) if config.labels is not None else {}
    rejected: list[dict[str, Any]] = []
    repeated = 0
    with console.progress(None, "bank", "records") as shown:
        for action, text, source in _records(config.records):
            shown.update()
            if not text:
                rejected.append({"action": action, "text": text, "source": source, "reason": "empty"})
                continue
            canonical = canonical_name(action)
            if config.labels is not None and canonical not in entries:
                rejected.append({"action": action, "text": text, "source": source, "reason": "unknown_label"})
                continue
            entry = entries.setdefault(canonical, _Entry(action))
            entry.aliases.add(action)
            entry.origins.add(source)
            repeated += text in entry.texts
            entry.texts.setdefault(text, source)
    if not entries:
        raise UsageError(f"records {config.records} must hold at least one row with an action, got none")
    make_folder(out / "descriptions")
    descriptions = _write(out, entries)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rejected)
    if rejected:
        write_atomic(out / "rejected.jsonl", lines.encode())
    totals = BankTotals(len(entries), descriptions, repeated, len(rejected))
    files = ["actions.parquet", "descriptions/000000.parquet", "descriptions/000000.arrow"]
    record = {
        "version": VERSION,
        "rules": RULES,
        "actions": totals.actions,
        "descriptions": totals.descriptions,
        "rejected": totals.rejected,
        "sha256": {name: sha256_of(out / name) for name in files},
    }
    write_atomic(out / NAME, (json.dumps(record, sort_keys=True, indent=1) + "\n").encode())
    return totals


def _labels(path: Path) -> dict[str, _Entry]:
    try:
        names = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"labels {path} must be a text file with one action name per line: {error}") from error
    if not names:
        raise UsageError(f"labels {path} must name at least one action, got an empty file")
    entries: dict[str, _Entry] = {}
    for name in names:
        entry = entries.setdefault(canonical_name(name), _Entry(name))
        entry.aliases.add(name)
        entry.origins.add(path.name)
    return entries


def _records(path: Path) -> Iterator[tuple[str, str, str]]:
    if not path.is_file():
        raise UsageError(f"records {path} must be a csv, tsv, jsonl or parquet file, but there is none")
    for number, record in enumerate(read_records(path), 1):
        action, text = record.get("action"), record.get("text")
        if not isinstance(action, str) or not action.strip() or not isinstance(text, str):
            raise UsageError(f"{path}: record {number} must have text columns `action` and `text`, got {record!r:.200}")
        cleaned = " ".join(unicodedata.normalize("NFC", text).split())
        yield action.strip(), cleaned, str(record.get("source") or path.name)


def _write(out: Path, entries: dict[str, _Entry]) -> int:
    """Write the tables; returns how many descriptions there are."""
    actions: list[dict[str, Any]] = []
    columns: dict[str, list[object]] = defaultdict(list)
    for canonical, entry in sorted(entries.items()):
        number = action_id(canonical)
        actions.append(
            {
                "action_id": number,
                "name": entry.name,
                "canonical": canonical,
                "aliases": sorted(entry.aliases),
                "origins": sorted(entry.origins),
                "first_row": len(columns["text"]),
                "descriptions": len(entry.texts),
            }
        )
        for text, source in sorted(entry.texts.items()):
            row = (number, text, source, count_sentences(text), None, text_hash(text))
            for name, value in zip(DESCRIPTIONS.names, row, strict=True):
                columns[name].append(value)
    table = pa.table({name: columns[name] for name in DESCRIPTIONS.names}, schema=DESCRIPTIONS)
    with atomic_file(out / "actions.parquet") as file:
        pq.write_table(pa.Table.from_pylist(actions, schema=ACTIONS), file)
    with atomic_file(out / "descriptions" / "000000.parquet") as file:
        pq.write_table(table, file, compression="zstd")
    texts = table.select(["text"])
    with atomic_file(out / "descriptions" / "000000.arrow") as file, pa.ipc.new_file(file, texts.schema) as writer:
        writer.write_table(texts)
    return len(columns["text"])


def count_sentences(text: str) -> int:
    """Runs of a non-empty text that end in a full stop, question or exclamation mark, or with the text."""
    return len(_SENTENCE_END.findall(text)) + (text[-1:] not in ".!?")
