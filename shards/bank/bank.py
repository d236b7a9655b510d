"""A description bank opened for reading: actions, and their texts read one by one where they lie, in its own files
(`bank_files` says what they are) or in the tars in which a dataset carries it (`bank_tars`).
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DamageError, UsageError
from ..files import inside
from ..manifest import NAME as MANIFEST_NAME
from ..manifest import read_manifest
from .draw import draw_texts
from .files import ACTIONS, NAME, TEXTS, BankRecord, check_files, read_record
from .rows import FileTexts, TextFiles
from .tars import open_blocks


@dataclass(frozen=True, slots=True)
class Action:
    """One canonical action."""

    action_id: int
    name: str
    canonical: str
    aliases: tuple[str, ...]
    """Every spelling that stands for it, sorted."""
    origins: tuple[str, ...]
    """The label lists or sources that named it."""
    descriptions: int


class Bank:
    """A bank opened for reading; `Bank.open` takes either form."""

    def __init__(self, actions: Sequence[Action], texts: dict[int, Sequence[str]], where: str) -> None:
        self.actions = list(actions)
        self._texts = texts
        self._where = where

    @classmethod
    def open(cls, path: str | Path) -> "Bank":
        """Open a Parquet bank folder, or the bank that a dataset carries as tars.

        Of a Parquet bank the record, the actions and the sizes of all files are checked now, a text's place when it is
        read; `verify_bank` checks every byte.

        Raises:
            UsageError: the folder is neither.
            DamageError: a file of it does not read.
        """
        folder = Path(path)
        if (folder / NAME).is_file():
            return cls(*_read_current(folder), str(folder))
        if not (folder / MANIFEST_NAME).is_file():
            raise UsageError(f"{folder} must be a bank (a folder with {NAME}) or a dataset that carries one")
        manifest = read_manifest(folder)
        if not manifest.bank:
            raise UsageError(f"{folder} must carry a bank (made by `ingest --bank`), but this dataset has none")
        rows, texts = open_blocks([inside(folder, shard.uri) for shard in manifest.bank])
        return cls([_action(row) for row in rows], texts, str(folder))

    @cached_property
    def _by_name(self) -> dict[str, Action]:
        names = {alias: action for action in self.actions for alias in action.aliases}
        names |= {action.canonical: action for action in self.actions}
        return names | {action.name: action for action in self.actions}

    def find(self, name: str) -> Action:
        """The action called `name`: its name, canonical name or an alias.

        Raises:
            UsageError: there is none; says the nearest name that there is.
        """
        action = self._by_name.get(name)
        if action is None:
            near = difflib.get_close_matches(name, self._by_name, n=1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise UsageError(f"label {name!r} must be an action of the bank {self._where}{hint}")
        return action

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def descriptions(self, action_id: int) -> list[str]:
        """All texts of an action, in stored order."""
        return list(self._texts[action_id])

    def draw(self, action_id: int, k: int, *, seed: int) -> list[str]:
        """`k` different texts of an action in a seeded order; all of them where there are fewer."""
        return draw_texts(self._texts[action_id], k, seed=seed, action_id=action_id)


def _read_current(folder: Path) -> tuple[list[Action], dict[int, Sequence[str]]]:
    """The folder as `bank.json` has it; files that `bank add` takes away under the reader's hands are no damage."""
    record = read_record(folder)
    while True:
        try:
            return _read_folder(folder, record)
        except DamageError:
            earlier, record = record, read_record(folder)
            if record.generation == earlier.generation:
                raise


def _read_folder(folder: Path, record: BankRecord) -> tuple[list[Action], dict[int, Sequence[str]]]:
    check_files(folder, record, record.files, content=False)
    check_files(folder, record, [record.actions], content=True)
    rows = read_actions(folder, record)
    files = _map_texts(folder, record)
    texts: dict[int, Sequence[str]] = {
        row["action_id"]: FileTexts(files, row["first_row"], row["descriptions"]) for row in rows
    }
    return [_action(row) for row in rows], texts


def read_actions(folder: Path, record: BankRecord) -> list[dict[str, Any]]:
    """The rows of the table of actions (`bank_files.ACTIONS`).

    Raises:
        DamageError: it does not read, or its rows do not follow each other through the descriptions.
    """
    try:
        rows: list[dict[str, Any]] = pq.read_table(folder / record.actions, schema=ACTIONS).to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DamageError(f"bank {folder} does not read: {record.actions}: {error}") from error
    end = 0
    for row in rows:
        if None in row.values() or row["first_row"] != end or row["descriptions"] < 0:
            raise DamageError(f"bank {folder}: action {row['canonical']!r} must begin at row {end}, got {row!r:.300}")
        end += row["descriptions"]
    if end != sum(part.rows for part in record.parts):
        held = sum(part.rows for part in record.parts)
        raise DamageError(f"bank {folder}: {record.actions} covers {end} descriptions, the parts hold {held}")
    return rows


def _map_texts(folder: Path, record: BankRecord) -> TextFiles:
    """The texts of all parts."""
    files = TextFiles()
    for part in record.parts:
        rows = files.open(folder / part.texts).add(TEXTS, f"bank {folder}", part.texts)
        if rows != part.rows:
            raise DamageError(f"bank {folder}: {part.texts} must have {part.rows} rows, got {rows}")
    return files


def verify_bank(folder: Path) -> BankRecord:
    """Check every byte of a Parquet bank against `bank.json`, and return that.

    Raises:
        UsageError: another version.
        DamageError: a file is missing or different.
    """
    record = read_record(folder)
    check_files(folder, record, record.files, content=True)
    return record


def _action(row: dict[str, Any]) -> Action:
    return Action(
        row["action_id"],
        row["name"],
        row["canonical"],
        tuple(row["aliases"]),
        tuple(row["origins"]),
        row["descriptions"],
    )
