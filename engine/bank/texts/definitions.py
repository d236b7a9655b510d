"""Published texts of classes: dictionary definitions (ElaborativeRehearsal) and short descriptors (OST).

Both files count classes, each in its own way, and a wrong list gives wrong texts without a sign of it:

- A definition carries its class's name; ids are positions in the file. For Kinetics these are K400's 400 classes in
  their order, then the 220 that K600 brought. The files for HMDB51 and UCF101 sort the names with spaces between the
  words, which is another order than that of the datasets' own lists: `in_order_of` gives the ids of your list.
- Descriptors carry ids alone, of the list with which they were written: for K400, SSv2 and UCF101 the usual one; for
  HMDB51 the one with underscores (kick before kick_ball; ViFi-CLIP's csv has them the other way round); for K600 the
  sorted union of the names in its three zero-shot splits, which is 217 of the 220.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ....shards.errors import UsageError
from ....shards.files import atomic_file
from ..names.text_file import read_json

DEFINITIONS_NAME = "definitions.parquet"
DEFINITIONS = pa.schema(
    [
        ("action_id", pa.int64()),
        ("text", pa.string()),
        ("source", pa.string()),  # the file it came from, or what generated it
    ]
)


@dataclass(frozen=True, slots=True)
class ClassText:
    """One text of one class."""

    class_id: int
    """Position of the class in its list, from 0."""
    position: int
    """Of the text among those of its class, from 0."""
    name: str
    """The class as its list spells it."""
    text: str
    source: str


def read_definitions(path: Path, *, source: str | None = None) -> list[ClassText]:
    """The definitions of an ElaborativeRehearsal file: a list of {word, defn, …}, in its order.

    Args:
        path: a json file of at most 16 MB.
        source: what the rows say that they come from; without it the file's name.

    Raises:
        UsageError: it does not read, or a class lacks its name or definition.
    """
    content: Any = read_json(path, "definitions")
    if not isinstance(content, list):
        raise UsageError(f"definitions {path} must be a list of objects with word and defn, got {_kind(content)}")
    rows = []
    for class_id, item in enumerate(content):
        fields = (item.get("word"), item.get("defn")) if isinstance(item, dict) else (None, None)
        name, text = (field.strip() if isinstance(field, str) else "" for field in fields)
        if not name or not text:
            raise UsageError(f"definitions {path}: item {class_id + 1} must have word and defn, got {item!r:.80}")
        rows.append(ClassText(class_id, 0, name, text, source or path.name))
    return rows


def read_descriptors(path: Path, labels: Sequence[str], *, source: str | None = None) -> list[ClassText]:
    """The descriptors of an OST file, {"<class id>": [text, …]}, sorted by class id, in their order within a class.

    Args:
        path: a json file of at most 16 MB.
        labels: names by class id: the very list that the file was written with (see above).
        source: what the rows say that they come from; without it the file's name.

    Raises:
        UsageError: it does not read, its ids are not 0 … len(labels) - 1, or a class has no text or a blank one.
    """
    content: Any = read_json(path, "descriptors")
    if not isinstance(content, dict):
        raise UsageError(f"descriptors {path} must be an object of class ids with lists of texts, got {_kind(content)}")
    rows = []
    for class_id, name in enumerate(labels):
        texts = content.get(str(class_id))
        if texts is None or len(content) != len(labels):
            lack = f" and none of them {class_id}" if texts is None else ""
            raise UsageError(
                f"descriptors {path} must have the class ids 0 to {len(labels) - 1} of the {len(labels)} labels, "
                f"got {len(content)} ids{lack}: give the list that this file was written with"
            )
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) and text.strip() for text in texts)
        ):
            raise UsageError(f"descriptors {path}: class {class_id} must have a list of texts, got {texts!r:.80}")
        rows += [ClassText(class_id, i, name, text.strip(), source or path.name) for i, text in enumerate(texts)]
    return rows


def in_order_of(labels: Sequence[str], rows: Iterable[ClassText]) -> tuple[list[ClassText], list[str]]:
    """Rows with the class ids and spellings of another list: names are the same when their letters and digits are.

    Args:
        labels: names by class id.
        rows: of classes in whatever order.

    Returns:
        The rows of these labels, sorted by class id; and the names, in their order, that are none of them.

    Raises:
        UsageError: two labels have the same letters.
    """
    ids: dict[str, int] = {}
    for class_id, label in enumerate(labels):
        if ids.setdefault(_letters(label), class_id) != class_id:
            raise UsageError(f"labels must differ in their letters, got {labels[ids[_letters(label)]]!r} and {label!r}")
    found, others = [], dict[str, None]()
    for row in rows:
        class_id = ids.get(_letters(row.name), -1)
        if class_id < 0:
            others[row.name] = None
        else:
            found.append(replace(row, class_id=class_id, name=labels[class_id]))
    return sorted(found, key=lambda row: (row.class_id, row.position)), list(others)


def write_definitions(bank: Path, rows: Iterable[tuple[int, str, str]]) -> int:
    """Write a bank's definitions.parquet, whole or not at all; the same rows give the same bytes in any order.

    Args:
        bank: the bank's folder.
        rows: (action_id, text, source); a row given twice is written once.

    Returns:
        How many rows it has, sorted by action_id, text and source.

    Raises:
        StorageError: the disk refused.
    """
    distinct = sorted(set(rows))
    columns = list(zip(*distinct, strict=True)) or [(), (), ()]
    table = pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, DEFINITIONS, strict=True)], DEFINITIONS
    )
    with atomic_file(bank / DEFINITIONS_NAME) as file:
        pq.write_table(table, file, compression="zstd")
    return len(distinct)


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum()) or name


def _kind(content: object) -> str:
    return "an object" if isinstance(content, dict) else "a list" if isinstance(content, list) else repr(content)[:80]
