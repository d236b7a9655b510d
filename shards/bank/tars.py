"""A description bank as WebDataset tars: one sample per block of an action's descriptions.

    tables.<name>.parquet     first sample of the first tar: the bank's other tables (definitions, synonyms, …), each as
                              it lies in the bank, byte for byte; absent where the bank has none
    <action id>-<n>.json      the action (`facts`), and which block of how many this is
    <action id>-<n>.arrow     the block's rows as an uncompressed Arrow file (`BLOCK`), texts first

Actions come by id, the blocks of one after the other. An action with many descriptions has several blocks, so a reader
in sequence holds at most one; and as Arrow files lie in the tar as they are, draws read just their texts. The hash of a
row is not there: it follows from the text. Tars are not trusted.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from ..errors import DamageError
from .files import DESCRIPTIONS
from .rows import FileTexts, TextFiles

BLOCK = pa.schema([DESCRIPTIONS.field(name) for name in ("text", "source", "sentences", "relevance")])
BLOCK_LIMIT_BYTES = 256 << 20
TABLE_LIMIT_BYTES = 4 << 30
FACTS_LIMIT_BYTES = 64 << 20
TABLES = ("definitions", "entities", "prompts", "subtexts", "synonyms", "verb_objects")
"""The tables that travel along."""
TABLES_KEY = "tables"
_FIELDS = {"action_id": int, "name": str, "canonical": str, "aliases": list, "origins": list, "descriptions": int}
_FIELDS |= {"block": int, "blocks": int, "rows": int}


@dataclass(frozen=True, slots=True)
class Block:
    """Some descriptions of an action."""

    facts: Mapping[str, Any]
    """action_id, name, canonical, aliases, origins, descriptions (of the action), block (from 0), blocks, rows."""
    rows: pa.Table
    """Of `BLOCK`."""


@dataclass(frozen=True, slots=True)
class _Place:
    tar: Path
    facts: dict[str, Any]
    offset: int
    bytes: int


def block_key(action_id: int, number: int) -> str:
    """The key of a block's sample."""
    return f"{action_id:016x}-{number:06d}"


def stream_blocks(tars: Iterable[str | Path | BinaryIO]) -> Iterator[Block]:
    """Read the blocks of a bank's tars front to back, one at a time.

    Args:
        tars: paths or open binary files (which need not seek), in the bank's order; or a part of them.

    Raises:
        DamageError: not the tar of a bank, or a block over 256 MiB.
    """
    for tar in tars:
        opened = {"name": str(tar)} if isinstance(tar, str | Path) else {"fileobj": tar}
        try:
            with tarfile.open(mode="r|", **opened) as archive:
                for facts, member in _blocks(archive, tar):
                    file = archive.extractfile(member)
                    assert file is not None, "a regular file"
                    yield Block(facts, _table(file.read(), facts, f"{tar}: {member.name}"))
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DamageError(f"{tar} is not a bank tar: {error}") from error


def open_blocks(tars: Sequence[Path]) -> tuple[list[dict[str, Any]], dict[int, Sequence[str]]]:
    """Open all tars of a bank, to read any text of it.

    Returns:
        The facts of every action, and action id → its texts.

    Raises:
        DamageError: not the tars of a bank, or not all of them.
    """
    actions: list[dict[str, Any]] = []
    files, firsts = TextFiles(), list[int]()
    last: dict[str, Any] | None = None
    for tar in tars:
        opened = files.open(tar)
        for place in _places(tar):
            name = f"block {place.facts['block']} of {place.facts['canonical']!r}"
            _check_order(last, place.facts, f"{tar}: {name}")
            last = place.facts
            if last["block"] == 0:
                actions.append(last)
                firsts.append(files.rows)
            rows = opened.add(BLOCK, str(tar), name, begin=place.offset, size=place.bytes)
            if rows != last["rows"]:
                raise DamageError(f"{tar}: {name} must have {last['rows']} rows, got {rows}")
    if last is not None and last["block"] != last["blocks"] - 1:
        must = f"{last['blocks']} blocks of {last['canonical']!r}"
        raise DamageError(f"{tars[-1]} must end with {must}, got {last['block'] + 1}")
    texts: dict[int, Sequence[str]] = {}
    for facts, first, end in zip(actions, firsts, [*firsts[1:], files.rows], strict=True):
        if end - first != facts["descriptions"] or facts["action_id"] in texts:
            told = f"{facts['canonical']!r} once, with {facts['descriptions']} descriptions"
            raise DamageError(f"{tars[0]} and what follows must have {told}, got {end - first}")
        texts[facts["action_id"]] = FileTexts(files, first, end - first)
    return actions, texts


def _check_order(last: dict[str, Any] | None, facts: dict[str, Any], where: str) -> None:
    if facts["block"] == 0:
        fine = last is None or last["block"] == last["blocks"] - 1
    else:
        fine = last is not None and facts == last | {"block": last["block"] + 1, "rows": facts["rows"]}
    if not fine:
        raise DamageError(f"{where} must follow the block before it")


def read_table(tars: Sequence[Path], name: str) -> bytes | None:
    """One of `TABLES` as a Parquet file; None where the bank has none.

    Raises:
        DamageError: the first tar does not read.
    """
    for tar in tars[:1]:
        try:
            with tarfile.open(tar, "r:") as archive:
                for member in archive:
                    if not member.name.startswith(f"{TABLES_KEY}."):
                        break
                    if member.name == f"{TABLES_KEY}.{name}.parquet" and member.size <= TABLE_LIMIT_BYTES:
                        file = archive.extractfile(member)
                        return None if file is None else file.read()
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DamageError(f"{tar} is not a bank tar: {error}") from error
    return None


def _places(tar: Path) -> list[_Place]:
    size = tar.stat().st_size
    try:
        with tarfile.open(tar, "r:") as archive:
            found = [_Place(tar, facts, member.offset_data, member.size) for facts, member in _blocks(archive, tar)]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DamageError(f"{tar} is not a bank tar: {error}") from error
    for place in found:
        if place.offset + place.bytes > size:
            raise DamageError(f"{tar}: a block at {place.offset} must end inside its {size} bytes")
    return found


def _blocks(archive: tarfile.TarFile, tar: object) -> Iterator[tuple[dict[str, Any], tarfile.TarInfo]]:
    """The facts of each block, and the member with its rows, which is the next to be read."""
    facts: dict[str, Any] | None = None
    for member in archive:
        key, _, ext = member.name.partition(".")
        fine = member.isreg() and ext in ("json", "arrow") and (ext == "arrow") == (facts is not None)
        if member.isreg() and key == TABLES_KEY and facts is None:
            continue
        if not fine or member.size > (BLOCK_LIMIT_BYTES if ext == "arrow" else FACTS_LIMIT_BYTES):
            raise DamageError(
                f"{tar}: {member.name} must be a .json and its .arrow, each at most {BLOCK_LIMIT_BYTES >> 20} MiB; a "
                "bank of an earlier version is put there again by `ingest --bank`"
            )
        if facts is None:
            file = archive.extractfile(member)
            assert file is not None, "a regular file"
            facts = _facts(file.read(), f"{tar}: {member.name}")
            if key != block_key(facts["action_id"], facts["block"]):
                raise DamageError(f"{tar}: {member.name} must be named after its action and block")
        else:
            yield facts, member
            facts = None
    if facts is not None:
        raise DamageError(f"{tar} must have the rows of {facts['canonical']!r} at its end")


def _facts(content: bytes, where: str) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(content)
        fine = set(facts) == set(_FIELDS) and all(type(facts[name]) is kind for name, kind in _FIELDS.items())
        fine = fine and all(isinstance(each, str) for each in (*facts["aliases"], *facts["origins"]))
        fine = fine and 0 <= facts["block"] < facts["blocks"] and 0 <= facts["action_id"] < 1 << 63
    except (ValueError, TypeError, RecursionError) as error:
        raise DamageError(f"{where} does not read: {error}") from error
    if not fine:
        raise DamageError(f"{where} must say {', '.join(_FIELDS)} of a block, got {content[:200]!r}")
    return facts


def _table(content: bytes, facts: Mapping[str, Any], where: str) -> pa.Table:
    try:
        table = pa.ipc.open_file(io.BytesIO(content)).read_all()
        table.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        raise DamageError(f"{where} does not read: {error}") from error
    if not table.schema.equals(BLOCK) or len(table) != facts["rows"]:
        raise DamageError(f"{where} must have {facts['rows']} rows of {BLOCK.names}, got {len(table)}")
    return table
