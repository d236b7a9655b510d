"""The files of a description bank: what `bank.json` says, the tables' schemas, and checks on a folder that is not
trusted.

    bank.json                     version, options, totals, and the size and sha256 of every file below; written last
    actions.parquet               one row per action, sorted by id, with the rows of its descriptions
    merges.csv                    spellings that were made one action, for a person to read, edit and give back
    ledger.parquet                one row per record that was not kept, and why
    descriptions/000000.parquet   a part: a range of action ids, sorted by action, then text
    descriptions/000000.arrow     the same texts as uncompressed Arrow IPC, where draws read theirs

`bank add` writes changed files under new names (`actions.1.parquet`, the generation before the suffix) and then
`bank.json`: a reader sees the bank before or after, never a mixture. So names come out of `bank.json`, not by guessing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from ..errors import DamageError, UsageError
from ..files import inside, sha256_of, write_atomic

NAME = "bank.json"
VERSION = 2
MAX_RECORD_BYTES = 256_000_000
DESCRIPTIONS_FOLDER = "descriptions"

ACTIONS = pa.schema(
    [
        ("action_id", pa.int64()),
        ("name", pa.string()),
        ("canonical", pa.string()),
        ("aliases", pa.list_(pa.string())),
        ("origins", pa.list_(pa.string())),
        ("first_row", pa.int64()),  # of its descriptions, counted through the parts
        ("descriptions", pa.int64()),
    ]
)
DESCRIPTIONS = pa.schema(
    [
        ("action_id", pa.int64()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("sentences", pa.int32()),
        ("relevance", pa.float32()),  # null until selected by relevance
        ("hash", pa.string()),  # blake2b of the text
    ]
)
TEXTS = pa.schema([("text", pa.string())])

Status = Literal["duplicate", "filtered", "failed"]
Reason = Literal[
    "exact",  # duplicate: the action has this text
    "near",  # duplicate: the action has a text that says the same
    "empty",  # filtered: nothing is left of the text
    "short",  # filtered: fewer words than asked
    "long",  # filtered: more words or characters than asked
    "url",  # filtered: holds a web address
    "letters",  # filtered: too few of its characters are letters
    "repeats",  # filtered: one word makes up too much of it
    "language",  # filtered: not in a language that was asked for
    "encoding",  # failed: not UTF-8
    "nul",  # failed: holds a NUL
    "long_record",  # failed: more bytes than a record may have
    "not_json",  # failed: the line is no JSON object
    "columns",  # failed: the wrong number of fields, or quotes without an end
    "missing_action",  # failed: no action, or no text as its name
    "missing_text",  # failed: no text
    "unknown_action",  # failed: not an action of the labels
    "damaged",  # failed: the rest of a file, or of a row group, does not read
]
REASONS: tuple[str, ...] = get_args(Reason)

LEDGER = pa.schema(
    [
        ("file", pa.string()),  # as it was named, from the folder that was given
        ("row", pa.int64()),  # 1-based number of the record in its file
        ("offset", pa.int64()),  # of its first byte; null where the format has none
        ("action", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("excerpt", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Part:
    """Descriptions of one range of action ids."""

    rows: int
    table: str
    """Name of the Parquet file."""
    texts: str
    """Name of the Arrow file."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a file must be."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BankRecord:
    """What `bank.json` holds."""

    options: Mapping[str, Any]
    """What the bank was built with; its bytes follow from these and the records."""
    totals: Mapping[str, int]
    """records = descriptions + duplicate + filtered + failed; and actions."""
    reasons: Mapping[str, int]
    """Records that were not kept, by reason."""
    actions: str
    merges: str
    ledgers: list[str]
    """One per generation."""
    parts: list[Part]
    files: dict[str, FileEntry]
    inputs: list[str]
    """Per generation a hash of what its records said."""
    generation: int = 0
    """How often something was added."""
    version: int = field(default=VERSION)


def read_record(folder: Path) -> BankRecord:
    """Read and check `bank.json`.

    Raises:
        UsageError: a bank of another version.
        DamageError: it does not read, or names a file that lies outside the bank or is not listed.
    """
    path = folder / NAME
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            raise DamageError(f"{path} must have at most {MAX_RECORD_BYTES} bytes, got {path.stat().st_size}")
        content = json.loads(path.read_bytes())
        version = content["version"]
        if version != VERSION:
            raise UsageError(
                f"{path} must be of bank version {VERSION}, got {version!r}: build the bank again from its records"
            )
        record = BankRecord(
            **content
            | {
                "parts": [Part(**part) for part in content["parts"]],
                "files": {name: FileEntry(**entry) for name, entry in content["files"].items()},
            }
        )
        _check(folder, record)
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        raise DamageError(f"bank {folder} does not read: {NAME}: {error}") from error
    return record


def _check(folder: Path, record: BankRecord) -> None:
    named = [record.actions, record.merges, *record.ledgers]
    for part in record.parts:
        named += [part.table, part.texts]
        if not isinstance(part.rows, int) or part.rows < 0:
            raise DamageError(f"bank {folder}: rows of a part must be >= 0, got {part.rows!r}")
    for name in named:
        if name not in record.files:
            raise DamageError(f"bank {folder}: {NAME} must list {name!r} among its files")
    for name in record.files:
        inside(folder, name)


def write_record(folder: Path, record: BankRecord) -> None:
    """Write `bank.json`: the moment from which the bank is as `record` says.

    Raises:
        StorageError: the disk refused.
    """
    content = json.dumps(asdict(record), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    write_atomic(folder / NAME, content.encode("utf-8", "backslashreplace"))


def file_entry(path: Path) -> FileEntry:
    """What `bank.json` says of a file that has been written."""
    return FileEntry(path.stat().st_size, sha256_of(path))


def versioned(name: str, generation: int) -> str:
    """The name of a file that this generation writes: actions.parquet, actions.1.parquet, …"""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{generation}.{suffix}" if generation else name


def check_files(folder: Path, record: BankRecord, names: Iterable[str], *, content: bool) -> None:
    """Hold files against what `bank.json` says of them: their sizes, with `content` every byte.

    Raises:
        DamageError: one is missing or different.
    """
    for name in names:
        path, entry = inside(folder, name), record.files[name]
        size = path.stat().st_size if path.is_file() else None
        if size != entry.bytes:
            got = "there is none" if size is None else f"it has {size}"
            raise DamageError(f"bank {folder}: {name} must have {entry.bytes} bytes, but {got}")
        if content and sha256_of(path) != entry.sha256:
            raise DamageError(f"bank {folder}: {name} is not what {NAME} says: its sha256 differs")


def text_hash(text: str) -> str:
    """Sixteen hex digits that name a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
