"""Class ids → names, in the forms in which datasets ship them."""

import csv
import re
from pathlib import Path
from typing import Any

from ...shards.errors import UsageError
from .records import read_json, read_lines, read_records

_NUMBERED = re.compile(r"(\d+|c\d{3})(?::\s*|\s+)(\S.*)")


def read_label_map(path: Path) -> dict[str, str]:
    """Names by class id, both as text.

    Read are: one name per line, numbered from 0 (mmaction2's `label_map_k400.txt`); lines of id and name (UCF101's
    `classInd.txt` `1 ApplyEyeMakeup`, Charades' `c000 Holding some clothes`, AVA's `1: bend/bow (at the waist)`); a csv
    with columns id and name (ViFi-CLIP's); a json object name → id (Something-Something's `labels.json`) or id → name.

    Raises:
        UsageError: the file is none of these.
    """
    match path.suffix.lower():
        case ".json":
            return _from_json(read_json(path), path)
        case ".csv":
            return _from_csv(path)
        case _:
            lines = [text for _, text in read_lines(path)]
            numbered = [_NUMBERED.fullmatch(line) for line in lines]
            if all(numbered):
                return {found[1]: found[2] for found in numbered if found}
            return {str(number): line for number, line in enumerate(lines)}


def _from_json(value: Any, path: Path) -> dict[str, str]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {str(number): name for number, name in enumerate(value)}
    if not isinstance(value, dict) or not all(isinstance(each, str | int) for each in value.values()):
        raise UsageError(f"label map {path} must be a JSON object of names and class ids, got {type(value).__name__}")
    if all(key.isdigit() for key in value):
        return {key: str(name) for key, name in value.items()}
    return {str(number): name for name, number in value.items()}


def _from_csv(path: Path) -> dict[str, str]:
    names = {}
    for record in read_records(path):
        if not {"id", "name"} <= record.keys():
            raise UsageError(f"label map {path} must have columns id and name, got {', '.join(record)}")
        names[record["id"]] = record["name"]
    return names


def class_name(class_id: str, names: dict[str, str] | None, where: str) -> str:
    """The name of a class id.

    Raises:
        UsageError: there is no label map, or it has no such id.
    """
    if names is None:
        raise UsageError(f"{where} gives the class id {class_id}: say which file names the classes (label_map)")
    if class_id not in names:
        raise UsageError(f"{where} gives the class id {class_id}, which the label map of {len(names)} names has not")
    return names[class_id]


def csv_cells(text: str) -> list[str]:
    """The cells of one line of csv."""
    return next(csv.reader([text]))
