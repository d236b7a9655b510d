"""The actions of a bank: every spelling that anyone gave, under its canonical name."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....shards.bank import read_actions
from ....shards.bank.files import BankRecord
from ....shards.errors import DamageError
from ....shards.schema import action_id
from ..names.merges import Names, merges_csv
from .gather import Seen

_LISTED_WITH = "; "


@dataclass(slots=True)
class _Entry:
    name: str
    """The spelling that came first."""
    aliases: dict[str, list[str]] = field(default_factory=dict)
    """Spelling → who gave it."""
    descriptions: int = 0


class Catalogue:
    """Actions while a bank is made: of the bank that there is, then of label lists, then of records."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._seen = Seen()

    @classmethod
    def of_bank(cls, folder: Path, record: BankRecord) -> "Catalogue":
        """The actions of a bank.

        Raises:
            DamageError: a table does not read.
        """
        catalogue, listed = cls(), _merged_origins(folder / record.merges)
        for row in read_actions(folder, record):
            entry = catalogue._entries[row["canonical"]] = _Entry(row["name"], descriptions=row["descriptions"])
            # a spelling that is not in the table of merges is the only one of its action
            entry.aliases = {alias: listed.get(alias, row["origins"]) for alias in row["aliases"]}
            catalogue._seen.add_origins(row["canonical"], row["origins"])
        return catalogue

    def add(self, spelling: str, canonical: str, origin: str) -> None:
        """Take a spelling of an action, which may be new."""
        entry = self._entries.setdefault(canonical, _Entry(spelling))
        entry.aliases.setdefault(spelling, [origin])
        self._seen.add_origins(canonical, [origin])

    def add_seen(self, seen: Seen) -> None:
        """Take the names that records gave."""
        for spelling, (canonical, origin) in seen.spellings.items():
            self.add(spelling, canonical, origin)
        for canonical, origins in seen.origins.items():
            self._seen.add_origins(canonical, origins)

    def count(self, canonical: str, descriptions: int) -> None:
        """Say how many descriptions an action has."""
        self._entries[canonical].descriptions = descriptions

    @property
    def canonicals(self) -> list[str]:
        """Names of all actions, sorted."""
        return sorted(self._entries)

    def rows(self) -> list[dict[str, Any]]:
        """The table of actions (`bank_files.ACTIONS`), by id."""
        rows: list[dict[str, Any]] = []
        first = 0
        for canonical, entry in sorted(self._entries.items(), key=lambda item: action_id(item[0])):
            row = {"action_id": action_id(canonical), "name": entry.name, "canonical": canonical}
            row |= {"aliases": sorted(entry.aliases), "origins": self._seen.origins[canonical]}
            rows.append(row | {"first_row": first, "descriptions": entry.descriptions})
            first += entry.descriptions
        return rows

    def merges(self, names: Names) -> bytes:
        """The table of merges."""
        return merges_csv(self._spellings(), names)

    def _spellings(self) -> Iterable[tuple[str, str, str]]:
        for canonical, entry in self._entries.items():
            for spelling, origins in entry.aliases.items():
                for origin in origins:
                    yield canonical, spelling, origin


def _merged_origins(path: Path) -> Mapping[str, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["spelling"]: row["origin"].split(_LISTED_WITH) for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError) as error:
        raise DamageError(f"table of merges {path} does not read: {error}") from error
