"""A description bank on disk: actions with row ranges into memory-mapped descriptions, as Parquet or as dataset tars.

A Parquet bank is a folder:
    bank.json                     version, rules, totals, hashes of the files below
    actions.parquet               one row per action, with the rows of its descriptions (first_row, descriptions)
    descriptions/000000.parquet   sorted by action, then text
    descriptions/000000.arrow     the same texts as uncompressed Arrow IPC, memory-mapped for draws
A dataset carries its bank as tars instead (`bank/000000.tar`): one sample per action, its block of texts as json.
"""

import difflib
import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import DamageError, UsageError
from .manifest import NAME as MANIFEST_NAME
from .manifest import read_manifest
from .order import permutation

NAME = "bank.json"
VERSION = 1
BLOCK_LIMIT_BYTES = 256 << 20  # one action's block of texts in a tar

ACTIONS = pa.schema(
    [
        ("action_id", pa.int64()),
        ("name", pa.string()),
        ("canonical", pa.string()),
        ("aliases", pa.list_(pa.string())),
        ("origins", pa.list_(pa.string())),
        ("first_row", pa.int64()),  # of its descriptions
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

        Raises:
            UsageError: the folder is neither.
            DamageError: a file of it does not read.
        """
        folder = Path(path)
        if (folder / NAME).is_file():
            return cls(*_read_parquet(folder), str(folder))
        if not (folder / MANIFEST_NAME).is_file():
            raise UsageError(f"{folder} must be a bank (a folder with {NAME}) or a dataset that carries one")
        manifest = read_manifest(folder)
        if not manifest.bank:
            raise UsageError(f"{folder} must carry a bank (made by `ingest --bank`), but this dataset has none")
        blocks = [block for shard in manifest.bank for block in read_blocks(folder / shard.uri)]
        actions = [_action(block | {"descriptions": len(block["texts"])}) for block in blocks]
        return cls(actions, {block["action_id"]: block["texts"] for block in blocks}, str(folder))

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
        texts = self._texts[action_id]
        return [texts[int(i)] for i in permutation(len(texts), "draw", seed, action_id)[:k]]


class _MappedTexts(Sequence[str]):
    """One action's rows of the memory-mapped text column; a draw touches only the rows it takes."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        return self._column[index].as_py()


def _read_parquet(folder: Path) -> tuple[list[Action], dict[int, Sequence[str]]]:
    try:
        record = json.loads((folder / NAME).read_bytes())
        if record["version"] != VERSION:
            raise UsageError(f"{folder / NAME} must be of bank version {VERSION}, got {record['version']!r}")
        rows = pq.read_table(folder / "actions.parquet", schema=ACTIONS).to_pylist()
        column = pa.ipc.open_file(pa.memory_map(str(folder / "descriptions" / "000000.arrow"))).read_all().column(0)
    except (OSError, KeyError, TypeError, json.JSONDecodeError, pa.ArrowInvalid) as error:
        raise DamageError(f"bank {folder} does not read: {error}") from error
    end = max((row["first_row"] + row["descriptions"] for row in rows), default=0)
    if end != len(column):
        raise DamageError(f"bank {folder}: actions.parquet covers {end} descriptions, the texts are {len(column)}")
    texts: dict[int, Sequence[str]] = {
        row["action_id"]: _MappedTexts(column.slice(row["first_row"], row["descriptions"])) for row in rows
    }
    return [_action(row) for row in rows], texts


def _action(row: dict[str, Any]) -> Action:
    return Action(
        row["action_id"],
        row["name"],
        row["canonical"],
        tuple(row["aliases"]),
        tuple(row["origins"]),
        row["descriptions"],
    )


def read_blocks(tar: Path) -> Iterator[dict[str, Any]]:
    """The action blocks of one bank tar.

    Raises:
        DamageError: not a tar of bank blocks, or a block over 256 MiB.
    """
    try:
        with tarfile.open(tar, "r:") as archive:
            for info in archive:
                file = archive.extractfile(info)
                if file is None or not info.name.endswith(".json") or info.size > BLOCK_LIMIT_BYTES:
                    raise DamageError(f"{tar}: {info.name} must be a json file of at most {BLOCK_LIMIT_BYTES} bytes")
                yield json.loads(file.read())
    except (tarfile.TarError, OSError, json.JSONDecodeError) as error:
        raise DamageError(f"{tar} is not a bank tar: {error}") from error


def block_bytes(action: Action, texts: Sequence[str], sources: Sequence[str]) -> bytes:
    """One action as the json member of a bank tar."""
    record = {
        "action_id": action.action_id,
        "name": action.name,
        "canonical": action.canonical,
        "aliases": action.aliases,
        "origins": action.origins,
        "texts": list(texts),
        "sources": list(sources),
    }
    return json.dumps(record, sort_keys=True, ensure_ascii=False).encode()


def text_hash(text: str) -> str:
    """Sixteen hex digits that name a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
