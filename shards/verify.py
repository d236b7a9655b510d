"""Offline check of a dataset and its features, every byte; faults are named by file, key and offset."""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import ledger
from .errors import DamageError
from .features.reader import Features
from .features.schema import FOLDER, INDEX_NAME
from .features.schema import NAME as FEATURES_NAME
from .files import sha256_of
from .index import index_bytes, read_index
from .manifest import ADOPTED, BankShard, ShardEntry
from .manifest import NAME as MANIFEST_NAME
from .reader import Dataset, ShardReader, members_of
from .schema import Member

Samples = list[tuple[str, list[Member]]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not as the dataset says."""

    file: str
    what: str
    key: str = ""
    offset: int | None = None

    def __str__(self) -> str:
        place = f" key {self.key}" if self.key else ""
        place += f" offset {self.offset}" if self.offset is not None else ""
        return f"{self.file}:{place} {self.what}"


def verify(folder: str | Path, on_shard: Callable[[int], None] = lambda samples: None) -> list[Fault]:
    """Check a dataset: hashes, tars, indexes, tables, crc32 of every payload, the ledger, and files that nobody lists.

    Args:
        folder: the dataset.
        on_shard: called with the number of samples of each shard that was checked.

    Returns:
        The faults, none for a whole dataset.

    Raises:
        UsageError: no dataset there.
        DamageError: dataset.json itself is damaged.
    """
    dataset = Dataset(folder)
    faults: list[Fault] = []
    keys: set[str] = set()
    tombstones = dataset.manifest.tombstones()
    adopted = {entry.name for g in dataset.manifest.generations if g.config["preset"] == ADOPTED for entry in g.shards}
    for shard, entry in enumerate(dataset.manifest.shards):
        try:
            faults += _check_shard(dataset, shard, entry, keys, tombstones[shard], entry.name in adopted)
        except Exception as error:  # whatever a damaged file makes a library raise
            faults.append(Fault(entry.uri, f"does not read: {type(error).__name__}: {error}"))
        on_shard(entry.samples)
    for bank in dataset.manifest.bank:
        faults += _check_bank(dataset.folder, bank)
    faults += _check_ledger(dataset, keys, complete=not faults)
    for folder in sorted((dataset.folder / FOLDER).glob("[!.]*")):  # a dot begins what a job has not ended
        faults += _check_features(dataset, folder)
    faults += _strangers(dataset)
    dataset.close()
    return faults


def _check_shard(
    dataset: Dataset, shard: int, entry: ShardEntry, keys: set[str], tombstones: frozenset[str], adopted: bool
) -> Iterator[Fault]:
    tar = dataset.tar_path(shard)
    hashes = {".tar": entry.sha256, ".idx": entry.idx_sha256, ".parquet": entry.parquet_sha256}
    for suffix, want in hashes.items():
        yield from _check_hash(tar.with_suffix(suffix), want)
    reader = dataset.tar(shard)
    if reader.bytes != entry.bytes:
        yield Fault(entry.uri, f"must be {entry.bytes} bytes long, is {reader.bytes}", offset=reader.bytes)
    table = dataset.shard_table(shard, ["key", "members"])
    samples = [
        (key, members_of(members)) for key, members in zip(*(table.column(i).to_pylist() for i in (0, 1)), strict=True)
    ]
    if len(samples) != entry.samples:
        yield Fault(tar.with_suffix(".parquet").name, f"must have {entry.samples} rows, has {len(samples)}")
    yield from _check_members(reader, samples)
    read_index(tar.with_suffix(".idx"), reader.bytes)
    if tar.with_suffix(".idx").read_bytes() != index_bytes(samples):
        yield Fault(tar.with_suffix(".idx").name, "is not the index of the samples in its table")
    yield from _check_archive(tar, samples, adopted)
    for key in (key for key, _ in samples if key not in tombstones):
        if key in keys:
            yield Fault(entry.uri, "is in the dataset twice", key)
        keys.add(key)


def _check_members(reader: ShardReader, samples: Samples) -> Iterator[Fault]:
    for key, members in samples:
        for member in members:
            try:
                reader.read(key, member)
            except DamageError as error:
                yield Fault(reader.path.name, str(error), key, member.offset)


def _check_archive(tar: Path, samples: Samples, adopted: bool) -> Iterator[Fault]:
    """The tar read as a tar must hold the same files at the same places, and no others where we wrote it."""
    want = [(f"{key}.{m.ext}", m.offset, m.size) for key, members in samples for m in members]
    got: list[tuple[str, int, int]] = []
    try:
        with tarfile.open(tar, "r:") as archive:
            got.extend((info.name, info.offset_data, info.size) for info in archive if info.isreg())
    except tarfile.TarError as error:
        if not adopted:
            yield Fault(tar.name, f"does not read as a tar: {error}")
    if adopted:  # other members, another order and what lies behind a cut are the tar's own business
        wanted = set(want)
        got, want = sorted(each for each in got if each in wanted), sorted(want)
    for expected, found in zip(want, got, strict=False):
        if expected != found:
            yield Fault(tar.name, f"must hold {expected[0]} there, holds {found[0]}", expected[0][:16], expected[1])
            return
    if len(want) != len(got):
        yield Fault(tar.name, f"must hold {len(want)} files, holds {len(got)}")


def _check_hash(path: Path, want: str) -> Iterator[Fault]:
    if not path.is_file():
        yield Fault(path.name, "is missing")
    elif (got := sha256_of(path)) != want:
        yield Fault(path.name, f"must have sha256 {want}, has {got}")


def _check_bank(folder: Path, bank: BankShard) -> Iterator[Fault]:
    tar = folder / bank.uri
    yield from _check_hash(tar, bank.sha256)
    yield from _check_hash(tar.with_suffix(".idx"), bank.idx_sha256)


def _check_ledger(dataset: Dataset, keys: set[str], complete: bool) -> Iterator[Fault]:
    path = dataset.folder / ledger.NAME
    yield from _check_hash(path, dataset.manifest.ledger_sha256)
    try:
        rows = ledger.read_ledger(dataset.folder)
        ids = rows.column("input_id").to_pylist()
        lists = rows.column("clips").to_pylist()
    except Exception as error:  # whatever a damaged file makes a library raise
        yield Fault(ledger.NAME, f"does not read: {type(error).__name__}: {error}")
        return
    if len(set(ids)) != len(ids):
        yield Fault(ledger.NAME, "names an input twice")
    clips = [clip for clips in lists for clip in clips or () if clip["status"] == "ok"]
    # where shards have faults of their own, the keys that lack are told there
    for key in ({clip["key"] for clip in clips} ^ keys) if complete else ():
        yield Fault(ledger.NAME, "is in the shards or in the ledger, not in both", key)


def _check_features(dataset: Dataset, folder: Path) -> Iterator[Fault]:
    name = f"{FOLDER}/{folder.name}"
    try:
        features = Features(dataset.store, folder.name)
        hashes = {f"{tar.name}.tar": tar.sha256 for tar in features.set.tars}
        hashes[INDEX_NAME] = features.set.index_sha256
        for file, want in hashes.items():
            yield from (Fault(f"{name}/{file}", fault.what) for fault in _check_hash(folder / file, want))
        for path in sorted(path for path in folder.iterdir() if path.name not in (*hashes, FEATURES_NAME)):
            yield Fault(f"{name}/{path.name}", f"is not listed in {FEATURES_NAME}")
        for row, (key, offset) in enumerate(zip(*(features.index.column(c).to_pylist() for c in (0, 2)), strict=True)):
            try:
                features.read_row(row)
            except DamageError as error:
                yield Fault(name, str(error), key, offset)
    except Exception as error:  # whatever a damaged file makes a library raise
        yield Fault(name, f"does not read: {type(error).__name__}: {error}")


def _strangers(dataset: Dataset) -> Iterator[Fault]:
    """Files beside the listed ones; a dataset holds what its manifest lists and nothing else."""
    tars = [s.uri for s in dataset.manifest.shards] + [s.uri for s in dataset.manifest.bank]
    listed = {MANIFEST_NAME, ledger.NAME, "inputs.parquet"}  # the last is for later ingests, outside the digest
    for tar in tars:
        listed |= {tar, tar.removesuffix(".tar") + ".idx", tar.removesuffix(".tar") + ".parquet"}
    for path in sorted(dataset.folder.rglob("*")):
        relative = path.relative_to(dataset.folder).as_posix()
        apart = relative.startswith(("features/", ".work/"))  # .work is a job that has not ended
        if path.is_file() and relative not in listed and not apart:
            yield Fault(relative, "is not listed in dataset.json")
