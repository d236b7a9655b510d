"""The texts of a description bank that methods train from, one Parquet table each, read without trusting them.

    verb_objects.parquet   a label as verb, object and the template that joins them            (ACE)
    synonyms.parquet       trees of verbs, orders 1 and 2; every parent is its own first child  (ACE)
    prompts.parquet        sentences per action and attribute                                   (AP-CLIP)
    subtexts.parquet       the steps of an action, in order, with the score of the set          (Storyboard)
    entities.parquet       things and body parts with a description                             (ALT)
    definitions.parquet    what an action is, as a dictionary tells it                          (CoCo)

Every row says its source and, where a language model wrote it, the hash of the request.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DamageError, UsageError
from ..files import atomic_file, inside
from ..manifest import NAME as MANIFEST_NAME
from ..manifest import read_manifest
from .tars import read_table

BATCH_ROWS = 4096
MAX_ROWS = 20_000_000
MAX_BYTES = 4 << 30
MAX_CHARS = 10_000
"""Of one text."""

_PROVENANCE = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("prompt_hash", pa.string()),  # null where no language model wrote the row
]


def _needed(**types: pa.DataType) -> list[pa.Field]:
    return [pa.field(name, kind, nullable=False) for name, kind in types.items()]


_ID = pa.int64()
_TEXT = pa.string()
_COUNT = pa.int32()
VERB_OBJECTS = pa.schema(_needed(action_id=_ID, verb=_TEXT, object=_TEXT, template=_TEXT))
SYNONYMS = pa.schema(
    [*_needed(verb=_TEXT, order=_COUNT, parent=_TEXT, child=_TEXT, position=_COUNT), *_PROVENANCE]
)  # position: the child's place among its parent's children, 0 for the parent itself
PROMPTS = pa.schema(
    [*_needed(action_id=_ID, group=_TEXT, attribute=_TEXT, llm_prompt=_COUNT, text=_TEXT), *_PROVENANCE]
)  # llm_prompt: which wording of the question the text answers, from 0
SUBTEXTS = pa.schema(
    [*_needed(action_id=_ID, n=_COUNT, text=_TEXT), pa.field("tpp", pa.float64()), *_PROVENANCE]
)  # tpp: of the whole set; null where it was not scored
ENTITIES = pa.schema([*_needed(name=_TEXT, description=_TEXT, kind=_TEXT), *_PROVENANCE])
DEFINITIONS = pa.schema(_needed(action_id=_ID, text=_TEXT, source=_TEXT))

SCHEMAS: Mapping[str, pa.Schema] = {
    "verb_objects": VERB_OBJECTS,
    "synonyms": SYNONYMS,
    "prompts": PROMPTS,
    "subtexts": SUBTEXTS,
    "entities": ENTITIES,
    "definitions": DEFINITIONS,
}
_SORTED_BY: Mapping[str, tuple[str, ...]] = {
    "verb_objects": ("action_id",),
    "synonyms": ("verb", "order", "parent", "position"),
    "prompts": ("action_id", "llm_prompt", "group", "attribute"),
    "subtexts": ("action_id", "n"),
    "entities": ("kind", "name"),
    "definitions": ("action_id", "text", "source"),
}
_MAKERS = {  # the other tables are made by the command of their name
    "verb_objects": "synonyms",
    "definitions": "entities --definitions FILES",
}


@dataclass(frozen=True, slots=True)
class VerbObject:
    """A label taken apart: what is done, and with what."""

    verb: str
    """With its particle: "pick up"."""
    object: str
    """Empty for a label that is a verb alone."""
    template: str
    """Holds `{verb}` once, and `{object}` once where there is an object."""

    def text(self, verb: str | None = None) -> str:
        """The label in words, with another verb if one is given: v ⊕ o."""
        # one pass: an object may itself hold braces
        parts = self.template.split("{verb}")
        return (verb or self.verb).join(part.replace("{object}", self.object) for part in parts)


@dataclass(frozen=True, slots=True)
class SynonymTree:
    """One concept: a verb, its synonyms, and theirs."""

    verb: str
    children: tuple[str, ...]
    """v+: the verb itself first, then its synonyms."""
    grandchildren: Mapping[str, tuple[str, ...]]
    """w+ of each child w: w itself first."""

    def children_of(self, word: str) -> tuple[str, ...]:
        """w+ of a node: of the verb, of one of its children, or the word alone where the tree does not go on."""
        return self.children if word == self.verb else self.grandchildren.get(word, (word,))


@dataclass(frozen=True, slots=True)
class Prompt:
    """One sentence about an action."""

    group: str
    attribute: str
    llm_prompt: int
    text: str


@dataclass(frozen=True, slots=True)
class SubTexts:
    """The steps of an action."""

    texts: tuple[str, ...]
    tpp: float | None
    """Text prompt perplexity of the set; None where it was not scored."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing or a body part."""

    name: str
    description: str
    """Empty where none is known."""
    kind: str

    @property
    def text(self) -> str:
        """`name: description`, as the text encoder reads it."""
        return f"{self.name}: {self.description}" if self.description else self.name


@dataclass(frozen=True, slots=True)
class Definition:
    """What an action is."""

    text: str
    source: str


def read_verb_objects(bank: str | Path) -> dict[int, VerbObject]:
    """action_id → its label taken apart.

    Raises:
        UsageError: the bank has no such table; says which command makes it.
        DamageError: the file is not such a table, or a row is wrong. (All readers here raise both.)
    """
    found: dict[int, VerbObject] = {}
    for row in _rows(bank, "verb_objects"):
        _check(bank, "verb_objects", row, row["action_id"] not in found, "an action once")
        _check(bank, "verb_objects", row, bool(row["verb"]), "a verb")
        _check(bank, "verb_objects", row, template_fits(row["template"], row["object"]), "a template that fits")
        found[row["action_id"]] = VerbObject(row["verb"], row["object"], row["template"])
    return found


def template_fits(template: str, thing: str) -> bool:
    """Whether a template holds `{verb}` once, and `{object}` once exactly where there is an object."""
    return template.count("{verb}") == 1 and template.count("{object}") == bool(thing)


def read_synonyms(bank: str | Path) -> dict[str, SynonymTree]:
    """Verb → its tree."""
    nodes: dict[str, dict[tuple[int, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in _rows(bank, "synonyms"):
        children = nodes[row["verb"]][row["order"], row["parent"]]
        _check(bank, "synonyms", row, row["order"] in (1, 2), "order 1 or 2")
        _check(bank, "synonyms", row, row["order"] == 2 or row["parent"] == row["verb"], "the verb as order 1's parent")
        _check(bank, "synonyms", row, row["position"] == len(children), f"position {len(children)}")
        _check(bank, "synonyms", row, bool(children) or row["child"] == row["parent"], "the parent as its first child")
        _check(bank, "synonyms", row, row["child"] not in children, "a child once")
        children.append(row["child"])
    trees = {}
    for verb, lists in nodes.items():
        first = lists.pop((1, verb), [])
        strange = sorted({parent for _, parent in lists} - set(first))
        if not first or strange:
            what = f"children of {strange[0]!r}, which is none of its own" if first else "no children of order 1"
            raise DamageError(f"{_path(bank, 'synonyms')}: the tree of {verb!r} has {what}")
        grandchildren = {parent: tuple(children) for (_, parent), children in lists.items()}
        trees[verb] = SynonymTree(verb, tuple(first), grandchildren)
    return trees


def read_prompts(bank: str | Path) -> dict[int, list[Prompt]]:
    """action_id → its prompts, by llm_prompt, group and attribute."""
    found: dict[int, list[Prompt]] = defaultdict(list)
    for row in _rows(bank, "prompts"):
        _check(bank, "prompts", row, bool(row["text"]), "a text")
        found[row["action_id"]].append(Prompt(row["group"], row["attribute"], row["llm_prompt"], row["text"]))
    return dict(found)


def read_subtexts(bank: str | Path) -> dict[int, SubTexts]:
    """action_id → its steps, in order."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows(bank, "subtexts"):
        mine = found[row["action_id"]]
        _check(bank, "subtexts", row, bool(row["text"]), "a text")
        _check(bank, "subtexts", row, row["n"] == len(mine), f"n {len(mine)}")
        _check(bank, "subtexts", row, not mine or mine[0]["tpp"] == row["tpp"], "one tpp for the whole set")
        mine.append(row)
    return {action: SubTexts(tuple(r["text"] for r in rows), rows[0]["tpp"]) for action, rows in found.items()}


def read_entities(bank: str | Path) -> list[Entity]:
    """All entities, by kind and name."""
    found: dict[str, Entity] = {}
    for row in _rows(bank, "entities"):
        _check(bank, "entities", row, bool(row["name"]) and row["name"] not in found, "a name of its own")
        found[row["name"]] = Entity(row["name"], row["description"], row["kind"])
    return list(found.values())


def read_definitions(bank: str | Path) -> dict[int, list[Definition]]:
    """action_id → its definitions, in stored order."""
    found: dict[int, list[Definition]] = defaultdict(list)
    for row in _rows(bank, "definitions"):
        _check(bank, "definitions", row, bool(row["text"]), "a text")
        found[row["action_id"]].append(Definition(row["text"], row["source"]))
    return dict(found)


def read_rows(bank: str | Path, name: str) -> list[dict[str, Any]]:
    """The rows of a table as they lie there, with their provenance."""
    return list(_rows(bank, name))


def write_rows(bank: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a table atomically, sorted; returns how many rows it has.

    Raises:
        StorageError: the disk refused.
    """
    keys = _SORTED_BY[name]
    ordered = sorted(rows, key=lambda row: tuple(row[key] for key in keys))
    table = pa.Table.from_pylist([dict(row) for row in ordered], schema=SCHEMAS[name])
    with atomic_file(_path(bank, name)) as file:
        pq.write_table(table, file, compression="zstd")
    return len(ordered)


def _path(bank: str | Path, name: str) -> Path:
    return Path(bank) / f"{name}.parquet"


def _rows(bank: str | Path, name: str) -> Iterator[dict[str, Any]]:
    path, schema = _path(bank, name), SCHEMAS[name]
    carried = None if path.is_file() else _carried(Path(bank), name)
    if carried is None and not path.is_file():
        command = f"reelmill bank {_MAKERS.get(name, name)}"
        raise UsageError(f"{bank} must be a bank with {path.name}, but it has none: `{command}` makes it")
    try:
        with pq.ParquetFile(path if carried is None else pa.BufferReader(carried), pre_buffer=False) as file:
            yield from _checked(file, path, schema)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DamageError(f"{path} does not read: {error}") from error


def _carried(dataset: Path, name: str) -> bytes | None:
    """The table of a bank that a dataset carries as tars."""
    if not (dataset / MANIFEST_NAME).is_file():
        return None
    return read_table([inside(dataset, shard.uri) for shard in read_manifest(dataset).bank], name)


def _checked(file: pq.ParquetFile, path: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    got = file.schema_arrow
    if got.names != schema.names or got.types != schema.types:
        raise DamageError(f"{path} must have columns {_columns(schema)}; got {_columns(got)}")
    if file.metadata.num_rows > MAX_ROWS:
        raise DamageError(f"{path} must have at most {MAX_ROWS} rows, got {file.metadata.num_rows}")
    needed = [field.name for field in schema if not field.nullable]
    size = number = 0
    for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
        size += batch.nbytes
        if size > MAX_BYTES:
            raise DamageError(f"{path} must hold at most {MAX_BYTES >> 30} GiB of text")
        for row in batch.to_pylist():
            number += 1
            if any(row[name] is None for name in needed):
                raise DamageError(f"{path}: row {number} must have {_listed(needed)}, got {str(row)[:200]}")
            if any(isinstance(value, str) and len(value) > MAX_CHARS for value in row.values()):
                raise DamageError(f"{path}: row {number} must hold texts of at most {MAX_CHARS} characters")
            yield row


def _check(bank: str | Path, name: str, row: Mapping[str, Any], fine: bool, want: str) -> None:
    if not fine:
        raise DamageError(f"{_path(bank, name)}: a row must have {want}, got {str(dict(row))[:300]}")


def _columns(schema: pa.Schema) -> str:
    return _listed([f"{field.name} {field.type}" for field in schema])[:500]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
