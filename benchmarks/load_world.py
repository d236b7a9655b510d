"""Datasets of any size in seconds: a few videos, stored again and again under keys of their own."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..engine.media.probe import probe
from ..shards.files import sha256_of
from ..shards.manifest import Generation, Manifest, ShardEntry, write_manifest
from ..shards.schema import SAMPLE, sample_key
from ..shards.table import packet_table, sample_table
from ..shards.tar import TarWriter


def write_dataset(
    folder: Path, videos: Sequence[Path], samples: int, *, shard_samples: int = 1000, named: str = ""
) -> Path:
    """Write a dataset whose sample i is video i modulo their number; every sample lies in the tars on its own.

    Args:
        folder: is made.
        videos: files of containers whose payloads lie in them as they are; their suffix is the member's.
        samples: > 0.
        shard_samples: of one shard, > 0; the last may hold fewer.
        named: what samples are called before their number; datasets that share it share their keys.
    """
    (folder / "shards").mkdir(parents=True)
    payloads = [path.read_bytes() for path in videos]
    known = sample_table([_row(path) for path in videos])
    shards = []
    for number, first in enumerate(range(0, samples, shard_samples)):
        numbers = range(first, min(first + shard_samples, samples))
        names = [f"{named}{n}" for n in numbers]
        its = [n % len(payloads) for n in numbers]
        shards.append(
            _write_shard(folder, number, names, [payloads[n] for n in its], known.take(its), videos[0].suffix)
        )
    totals = {"samples": samples, "bytes": sum(shard.bytes for shard in shards), "failed": 0, "inputs": samples}
    write_manifest(folder, Manifest(["made"], [Generation({}, "", shards)], "", totals))
    return folder


def _row(path: Path) -> dict[str, object]:
    facts = probe(str(path), "decode", table=True)
    facts["packets"] = packet_table(facts["packets"])
    row = dict.fromkeys(SAMPLE.names) | {name: facts[name] for name in SAMPLE.names if name in facts}
    return row | {"key": "", "members": [], "labels": ["made"], "source": path.name, "input_id": "", "generation": 0}


def _write_shard(
    folder: Path, number: int, names: Sequence[str], payloads: Sequence[bytes], table: pa.Table, suffix: str
) -> ShardEntry:
    tar, ext = folder / "shards" / f"{number:06d}.tar", suffix[1:]
    keys, members = [sample_key(name) for name in names], []
    with tar.open("wb") as file:
        writer = TarWriter(file)
        for key, payload in zip(keys, payloads, strict=True):
            (video,) = writer.add(key, {ext: payload})
            members.append([{"ext": ext, "offset": video.offset, "size": video.size, "crc32": video.crc32}])
        digest = writer.close()
    index = writer.index()
    tar.with_suffix(".idx").write_bytes(index)
    for name, values in (("key", keys), ("members", members), ("input_id", names)):
        place = SAMPLE.get_field_index(name)
        table = table.set_column(place, SAMPLE.field(place), pa.array(values, SAMPLE.field(place).type))
    pq.write_table(table, tar.with_suffix(".parquet"), compression="zstd")
    sums = hashlib.sha256(index).hexdigest(), sha256_of(tar.with_suffix(".parquet"))
    return ShardEntry(tar.stem, f"shards/{tar.name}", len(keys), tar.stat().st_size, digest, *sums)
