"""dataset.json: the list of committed shards and their hashes. What it does not list does not exist."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import DamageError, UsageError
from .files import inside, write_atomic
from .schema import FORMAT_VERSION, SAMPLE

NAME = "dataset.json"
ADOPTED = "adopted"  # the preset of a generation of foreign tars
ORDER_VERSION = 2  # shards/order.py: raised when the same seed would give another order


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One committed tar with its index and its table."""

    name: str
    uri: str
    """Of the tar, relative to the dataset; .idx and .parquet lie beside it."""
    samples: int
    bytes: int
    sha256: str
    idx_sha256: str
    parquet_sha256: str


@dataclass(frozen=True, slots=True)
class Generation:
    """What one ingest appended."""

    config: dict[str, Any]
    config_hash: str
    shards: list[ShardEntry]
    tombstones: list[str] = field(default_factory=list)
    """Keys of earlier generations that are no longer part of the dataset."""


@dataclass(frozen=True, slots=True)
class BankShard:
    """One tar of the dataset's description bank."""

    uri: str
    bytes: int
    sha256: str
    idx_sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole of dataset.json."""

    classes: list[str]
    """The class map: a label's index is its place here."""
    generations: list[Generation]
    ledger_sha256: str
    totals: dict[str, int]
    bank: list[BankShard] = field(default_factory=list)
    schema: list[str] = field(default_factory=lambda: [f"{f.name}: {f.type}" for f in SAMPLE])
    format_version: int = FORMAT_VERSION
    order_version: int = ORDER_VERSION

    @property
    def shards(self) -> list[ShardEntry]:
        """Every shard, oldest generation first."""
        return [shard for generation in self.generations for shard in generation.shards]

    @property
    def next_shard(self) -> int:
        """The first number that no shard has had."""
        return max((int(shard.name) for shard in self.shards), default=-1) + 1

    def tombstones(self) -> list[frozenset[str]]:
        """For every shard, oldest first, the keys in it that a later generation took away (and others beside them)."""
        gone, kept = frozenset[str](), list[frozenset[str]]()
        for generation in reversed(self.generations):
            kept += [gone] * len(generation.shards)
            gone |= set(generation.tombstones)
        return kept[::-1]

    @property
    def digest(self) -> str:
        """The hash of the manifest, and through the hashes in it of every byte of the dataset."""
        return hash_json(asdict(self))


def hash_json(value: Any) -> str:
    """Sha256 of the canonical JSON of a value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Commit a dataset: the last step of every job that changes one."""
    record = asdict(manifest) | {"digest": manifest.digest}
    write_atomic(folder / NAME, (json.dumps(record, sort_keys=True, indent=1) + "\n").encode())


def read_manifest(folder: str | Path) -> Manifest:
    """Read and check the dataset.json of a folder.

    Raises:
        UsageError: the folder holds no dataset, or one of another format version.
        DamageError: the file does not parse, lacks a field, names a path outside the folder or fails its own hash.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        unfinished = "; an ingest into it has not ended: run it again" if (path.parent / ".work").is_dir() else ""
        raise UsageError(f"{folder} must be a dataset (a folder with {NAME}), but there is none{unfinished}")
    return parse_manifest(path.read_bytes(), str(path))


def parse_manifest(data: bytes, where: str) -> Manifest:
    """The manifest in the bytes of a dataset.json.

    Args:
        data: the bytes.
        where: they come from, for errors.

    Raises:
        UsageError: it is of another format version.
        DamageError: as `read_manifest`.
    """
    try:
        record = json.loads(data)
        version = record["format_version"]
        if version != FORMAT_VERSION:
            raise UsageError(f"{where} must be of format version {FORMAT_VERSION}, got {version!r}")
        digest = record.pop("digest")
        manifest = _parse(record)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamageError(f"{where} is not a dataset manifest: {type(error).__name__}: {error}") from error
    if digest != manifest.digest:
        raise DamageError(f"{where} must hash to {digest} as it says itself, but hashes to {manifest.digest}")
    for uri in [s.uri for s in manifest.shards] + [s.uri for s in manifest.bank]:
        inside(Path(where).parent, uri)
    return manifest


def _parse(record: dict[str, Any]) -> Manifest:
    generations = [
        Generation(**(g | {"shards": [ShardEntry(**shard) for shard in g["shards"]]})) for g in record["generations"]
    ]
    bank = [BankShard(**shard) for shard in record["bank"]]
    return Manifest(**(record | {"generations": generations, "bank": bank}))
