"""Spelling → canonical name, with a person's last word; and the table in which that person reads what was merged.

The table of merges is the file of overrides: edit its `canonical` column (or write the two columns yourself) and give
it to the next build.
"""

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ....shards.bank.files import NAME as BANK_NAME
from ....shards.bank.files import read_record
from ....shards.errors import DamageError, UsageError
from ...sources import read_records
from .actions import SAFE, NameRules, applied_rules, canonical_name
from .text_file import check_file

MAX_OVERRIDE_BYTES = 256_000_000
SHOWN_ORIGINS = 5
COLUMNS = ("canonical", "spelling", "origin", "rules")


class Names:
    """Canonical names under one set of rules and overrides; an override wins over the rules."""

    def __init__(self, rules: NameRules, overrides: Mapping[str, str] | None = None) -> None:
        """Check the overrides.

        Raises:
            UsageError: an override leads to no name, to one that is not written as a canonical name, or to one that
                is itself overridden.
        """
        self.rules = rules
        self.overrides = dict(overrides or {})
        written = replace(
            rules, camel_case=False, parentheses="keep", drop_words="off", lemma="off", guess_lemmas=False
        )
        for spelling, canonical in self.overrides.items():
            if canonical == canonical_name(spelling, rules):
                continue
            wanted = canonical_name(canonical, written)
            if not wanted:
                raise UsageError(f"override of {spelling[:80]!r} must have a canonical name, got {canonical!r}")
            if canonical != wanted:
                raise UsageError(
                    f"override of {spelling[:80]!r} must be written {wanted[:80]!r}, got {canonical[:80]!r}"
                )
            further = self.overrides.get(canonical, canonical)
            if further != canonical:
                raise UsageError(
                    f"override of {spelling[:80]!r} must lead to an action, but {canonical[:80]!r} is overridden too: "
                    f"write {further[:80]!r}"
                )

    @classmethod
    def of_bank(cls, folder: Path) -> "Names":
        """Those that a bank was built by; the safe rules where the folder is a dataset that carries one.

        Raises:
            DamageError: the bank's options do not read.
        """
        if not (folder / BANK_NAME).is_file():
            return cls(SAFE)
        options = read_record(folder).options
        try:
            return cls(NameRules(**options["names"]), options["overrides"])
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise DamageError(f"bank {folder}: names in {BANK_NAME} do not read: {error!r}") from error

    def __call__(self, spelling: str) -> str:
        """The canonical name of a spelling."""
        return self.overrides.get(spelling) or canonical_name(spelling, self.rules)

    def applied(self, spelling: str) -> tuple[str, ...]:
        """What made the canonical name: the rules, or "override" where that says otherwise than the rules."""
        override = self.overrides.get(spelling)
        if override is not None and override != canonical_name(spelling, self.rules):
            return ("override",)
        return applied_rules(spelling, self.rules)

    def check_known(self, actions: Collection[str]) -> None:
        """Where the actions are given by label lists, every override must lead to one of them.

        Args:
            actions: canonical names of the labels.

        Raises:
            UsageError: one does not; says the nearest action.
        """
        for spelling, canonical in sorted(self.overrides.items()):
            if canonical not in actions:
                near = difflib.get_close_matches(canonical, actions, n=1)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise UsageError(
                    f"override of {spelling[:80]!r} must lead to an action of the labels, got {canonical[:80]!r}{hint}"
                )


def read_overrides(path: Path) -> dict[str, str]:
    """Spelling → canonical name out of a reviewed merges.csv; other columns than these two are not read.

    Args:
        path: a csv of at most 256 MB.

    Raises:
        UsageError: it does not read, lacks a column, has a blank spelling or canonical name, or a spelling twice with
            different canonical names.
    """
    check_file(path, "overrides", MAX_OVERRIDE_BYTES)
    overrides: dict[str, str] = {}
    for row, record in enumerate(read_records(path), 1):
        spelling, canonical = record.get("spelling"), record.get("canonical")
        if not isinstance(spelling, str) or not isinstance(canonical, str):
            raise UsageError(
                f"overrides {path} must have columns canonical and spelling, got {', '.join(record)[:200]}"
            )
        if not spelling.strip():
            raise UsageError(f"overrides {path}: spelling of row {row} must not be blank")
        if not canonical.strip():
            raise UsageError(f"overrides {path}: canonical of row {row} ({spelling[:80]!r}) must not be blank")
        if overrides.setdefault(spelling, canonical) != canonical:
            raise UsageError(
                f"overrides {path}: {spelling[:80]!r} must have one canonical name, "
                f"got {overrides[spelling][:80]!r} and {canonical[:80]!r}"
            )
    return overrides


def merges_csv(rows: Iterable[tuple[str, str, str]], names: Names) -> bytes:
    """The table of merges: one line per spelling that is not its own canonical name, or not the only one to have it.

    Args:
        rows: (canonical, spelling, origin), in any order and any number of times.
        names: what made the canonical names.

    Returns:
        UTF-8 csv with a header, sorted by canonical name and spelling: canonical, spelling, origin (at most five, then
        how many more), rules (what changed the name, or "override"). For every canonical name there are as many lines
        as it has spellings, so that the lines less their distinct canonical names are what the merging took away.
    """
    origins: dict[str, set[str]] = {}
    canonicals: dict[str, str] = {}
    for canonical, spelling, origin in rows:
        assert canonicals.setdefault(spelling, canonical) == canonical, f"{spelling!r} has two canonical names"
        origins.setdefault(spelling, set()).add(origin)
    spellings = Counter(canonicals.values())
    lines = [COLUMNS]
    for spelling, canonical in sorted(canonicals.items(), key=lambda item: (item[1], item[0])):
        if canonical != spelling or spellings[canonical] > 1:
            lines.append((canonical, spelling, _listed(origins[spelling]), " ".join(names.applied(spelling))))
    text = "".join(",".join(map(_quoted, line)) + "\n" for line in lines)
    return text.encode("utf-8", "backslashreplace")


def _listed(origins: set[str]) -> str:
    shown = sorted(origins)
    more = [f"{len(shown) - SHOWN_ORIGINS} more"] if len(shown) > SHOWN_ORIGINS else []
    return "; ".join(shown[:SHOWN_ORIGINS] + more)


def _quoted(field: str) -> str:
    # the csv module of Python 3.11 leaves a carriage return bare, which its own reader takes for the end of the line
    return '"' + field.replace('"', '""') + '"' if re.search(r'[",\r\n]', field) else field
