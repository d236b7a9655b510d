"""Label lists as their publishers write them → names in the order of their class ids."""

import re
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

from ....shards.errors import UsageError
from ...sources import read_records
from .text_file import check_file, read_json, read_text

MAX_NAME_CHARS = 1000

# `c000 Holding some clothes`, `1: bend/bow (at the waist)`, `1 ApplyEyeMakeup`
_NUMBERED = (re.compile(r"c(\d{1,9})\s+(\S.*)"), re.compile(r"(\d{1,9}):\s+(\S.*)"), re.compile(r"(\d{1,9})\s+(\S.*)"))


def read_labels(path: Path) -> list[str]:
    """The names of a label list; where its ids run from 0 without a gap, a name stands at its id.

    - `.csv`: columns `id` and `name`; the ids must be 0 … n-1, in any order.
    - `.json`: a list of objects with the name as `word` (ElaborativeRehearsal's), or a list of names.
    - anything else: one name per line, blank lines skipped. Where every line starts with a number ("c000 ", "1: ", or
      "1 ") and the numbers rise, they are not part of the names.

    A name may stand there twice: each has a class id of its own.

    Args:
        path: a file of at most 16 MB.

    Raises:
        UsageError: the file does not read, holds no name, or a name is blank, has over 1000 characters or a control
            character; an id is missing, given twice or no number.
    """
    match path.suffix.lower():
        case ".csv":
            names = _csv_names(path)
        case ".json":
            names = _json_names(path)
        case _:
            lines = re.split(r"\r\n|\r|\n", read_text(path, "labels"))  # nothing else ends a line of a list
            names = _without_numbers([line.strip() for line in lines if line.strip()])
    if not names:
        raise UsageError(f"labels {path} must name at least one action, got none")
    for position, name in enumerate(names, 1):
        _check(path, position, name)
    return names


def _check(path: Path, position: int, name: str) -> None:
    if not name:
        raise UsageError(f"labels {path}: name {position} must not be blank")
    if len(name) > MAX_NAME_CHARS:
        raise UsageError(
            f"labels {path}: name {position} must have at most {MAX_NAME_CHARS} characters, got {len(name)}"
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise UsageError(f"labels {path}: name {position} must have no control characters, got {name[:80]!r}")


def _csv_names(path: Path) -> list[str]:
    check_file(path, "labels")
    names: dict[int, str] = {}
    for row, record in enumerate(read_records(path), 1):
        if "id" not in record or "name" not in record:
            raise UsageError(f"labels {path} must have columns id and name, got {', '.join(record)[:200]}")
        number = record["id"].strip()
        if not re.fullmatch(r"[0-9]{1,9}", number):
            raise UsageError(f"labels {path}: id of row {row} must be a number from 0, got {number[:80]!r}")
        if int(number) in names:
            raise UsageError(f"labels {path}: every id must be given once, got {int(number)} twice")
        names[int(number)] = record["name"].strip()
    missing = next((number for number in range(len(names)) if number not in names), None)
    if missing is not None:
        raise UsageError(
            f"labels {path}: ids must be 0 to {len(names) - 1} for {len(names)} names, {missing} is missing"
        )
    return [names[number] for number in range(len(names))]


def _json_names(path: Path) -> list[str]:
    content: Any = read_json(path, "labels")
    if not isinstance(content, list):
        got = f"an object with {len(content)} keys" if isinstance(content, dict) else type(content).__name__
        raise UsageError(f"labels {path} must be a list of names or of objects with a `word`, got {got}")
    names = []
    for position, item in enumerate(content, 1):
        name = item.get("word") if isinstance(item, dict) else item
        if not isinstance(name, str):
            raise UsageError(f"labels {path}: item {position} must be a name or have one as `word`, got {item!r:.80}")
        names.append(name.strip())
    return names


def _without_numbers(lines: list[str]) -> list[str]:
    for pattern in _NUMBERED:
        found = [match for line in lines if (match := pattern.fullmatch(line))]
        numbers = [int(match[1]) for match in found]
        if len(found) == len(lines) > 1 and all(a < b for a, b in pairwise(numbers)):
            return [match[2] for match in found]
    return lines
