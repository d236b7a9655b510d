"""Write one shard: tar, index and table under temporary names, then renamed. A pure function of its plan."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..shards.files import atomic_file, make_folder, sha256_of, storage_error, write_atomic
from ..shards.ledger import Reason
from ..shards.manifest import ShardEntry
from ..shards.schema import SAMPLE, action_id
from ..shards.tar import TarWriter
from .bank.actions import canonical_name
from .config import IngestConfig
from .errors import MediaError
from .fetch import local_copy, version_of
from .plan import SamplePlan
from .sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class WrittenShard:
    """What a write task did."""

    entry: ShardEntry | None
    """None where no sample of the shard could be written."""
    failures: dict[str, tuple[Reason, str]] = field(default_factory=dict)
    """Keys of the samples that are not in it, with reason and detail."""


def write_shard(
    samples: Sequence[SamplePlan],
    number: int,
    out: Path,
    config: IngestConfig,
    generation: int,
    action_ids: dict[str, int] | None,
    sandbox: Sandbox,
    scratch: Path,
) -> WrittenShard:
    """Write shard `number` of the dataset at `out`.

    Args:
        samples: in the order in which they go into the tar.
        number: of the shard, its file name.
        out: the dataset folder.
        config: the job's options.
        generation: that the shard belongs to.
        action_ids: of every label, from a bank; None names actions by the label itself.
        sandbox: does what touches the videos.
        scratch: a folder for what lives no longer than a sample takes.

    Raises:
        StorageError: the disk refused.
    """
    tar_path = out / "shards" / f"{number:06d}.tar"
    make_folder(tar_path.parent)
    failures: dict[str, tuple[Reason, str]] = {}
    rows: list[dict[str, Any]] = []
    with atomic_file(tar_path) as file:
        writer = TarWriter(file)
        for sample in samples:
            try:
                rows.append(_write_sample(writer, sample, config, generation, action_ids, sandbox, scratch))
            except MediaError as error:
                failures[sample.key] = (error.reason, error.detail)
        tar_sha256 = writer.close()
    if not rows:
        tar_path.unlink()
        return WrittenShard(None, failures)
    return WrittenShard(write_companions(tar_path, writer.index(), rows, tar_sha256), failures)


def write_companions(tar: Path, index: bytes, rows: list[dict[str, Any]], tar_sha256: str) -> ShardEntry:
    """Write a tar's index and table beside it, and describe the three for the manifest.

    Raises:
        StorageError: the disk refused.
    """
    write_atomic(tar.with_suffix(".idx"), index)
    with atomic_file(tar.with_suffix(".parquet")) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLE), file, compression="zstd")
    sums = [sha256_of(tar.with_suffix(suffix)) for suffix in (".idx", ".parquet")]
    return ShardEntry(tar.stem, f"shards/{tar.name}", len(rows), tar.stat().st_size, tar_sha256, *sums)


def _write_sample(
    writer: TarWriter,
    sample: SamplePlan,
    config: IngestConfig,
    generation: int,
    action_ids: dict[str, int] | None,
    sandbox: Sandbox,
    scratch: Path,
) -> dict[str, Any]:
    limit = config.max_video_mb * 1_000_000
    with (
        tempfile.TemporaryDirectory(dir=scratch) as folder,
        local_copy(sample.row, Path(folder), max_bytes=limit, version=sample.facts["version"]) as source,
    ):
        facts, video = _make_form(sample, source, config, sandbox, Path(folder) / "clip.mkv")
        row = _table_row(sample, facts, generation, action_ids)
        record = {
            name: value for name, value in row.items() if name not in ("packets", "generation", "perceptual_hash")
        }
        if sample.row.extra:
            record["extra"] = sample.row.extra
        parts: dict[str, bytes | Path] = {
            sample.ext: video,
            "json": json.dumps(record, sort_keys=True, ensure_ascii=False).encode(),
        }
        if sample.row.caption:
            parts["txt"] = sample.row.caption.encode()
        return row | {"members": [asdict(member) for member in writer.add(sample.key, parts)]}


def _make_form(
    sample: SamplePlan, source: Path, config: IngestConfig, sandbox: Sandbox, scratch: Path
) -> tuple[dict[str, Any], Path]:
    """The sample's facts with its packet table, and the file whose bytes go into the tar."""
    if version_of(sample.row.path) != sample.facts["version"]:
        raise MediaError("changed", "the file changed while it was being ingested")
    path = str(source)
    try:
        if sample.form == "copy":
            packets = sandbox.call("packet_table", path=path, frames=sample.facts["frames"])
            frames = sum(packet["pts"] is not None for packet in packets)
            return sample.facts | {"packets": packets, "frames": frames}, source
        if sample.form == "remux":
            facts = sandbox.call("remux", path=path, out=str(scratch))
            return facts | {"rotation": sample.facts["rotation"]}, scratch  # Matroska has no place for it
        start, end = sample.span
        options = {"short_side": config.short_side, "start_seconds": start, "end_seconds": end}
        return sandbox.call("to_intra", path=path, out=str(scratch), **options), scratch
    except OSError as error:
        raise storage_error(scratch, error) from error


def _table_row(
    sample: SamplePlan, facts: dict[str, Any], generation: int, action_ids: dict[str, int] | None
) -> dict[str, Any]:
    row = sample.row
    label = row.labels[0] if row.labels else None
    if label is None:
        action = None
    else:
        action = action_ids[label] if action_ids is not None else action_id(canonical_name(label))
    named = {
        "key": sample.key,
        "labels": row.labels,
        "action_id": action,
        "split": row.split,
        "caption": row.caption,
        "input_id": row.input_id,
        "source": row.uri,
        "start_seconds": sample.span[0],
        "end_seconds": sample.span[1],
        "perceptual_hash": None,
        "generation": generation,
    }
    return named | {name: facts[name] for name in SAMPLE.names if name in facts}
