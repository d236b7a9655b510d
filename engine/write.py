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
from ..shards.ledger import Clip, LedgerRow, Status
from ..shards.manifest import ShardEntry
from ..shards.schema import SAMPLE, action_id
from ..shards.tar import TarWriter
from .bank.actions import canonical_name
from .config import IngestConfig
from .errors import MediaError
from .plan import SamplePlan
from .sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class WrittenShard:
    """What a write task did; `entry` is None where no sample of the shard could be written."""

    entry: ShardEntry | None
    ledger: list[LedgerRow] = field(default_factory=list)


def write_shard(
    samples: Sequence[SamplePlan],
    number: int,
    out: Path,
    config: IngestConfig,
    action_ids: dict[str, int] | None,
    sandbox: Sandbox,
) -> WrittenShard:
    """Write shard `number` of the dataset at `out`.

    Args:
        samples: in the order in which they go into the tar.
        number: of the shard, its file name.
        out: the dataset folder.
        config: the job's options.
        action_ids: of every label, from a bank; None names actions by the label itself.
        sandbox: does what touches the videos.

    Raises:
        StorageError: the disk refused.
    """
    name = f"{number:06d}"
    tar_path = out / "shards" / f"{name}.tar"
    make_folder(tar_path.parent)
    ledger: list[LedgerRow] = []
    rows: list[dict[str, Any]] = []
    with atomic_file(tar_path) as file:
        writer = TarWriter(file)
        for sample in samples:
            try:
                rows.append(_write_sample(writer, sample, config, action_ids, sandbox, tar_path.parent))
            except MediaError as error:
                ledger.append(_row(sample, error))
            else:
                ledger.append(_row(sample, None))
        tar_sha256 = writer.close()
    if not rows:
        tar_path.unlink()
        return WrittenShard(None, ledger)
    index = writer.index()
    write_atomic(tar_path.with_suffix(".idx"), index)
    table = pa.Table.from_pylist(rows, schema=SAMPLE)
    with atomic_file(tar_path.with_suffix(".parquet")) as file:
        pq.write_table(table, file, compression="zstd")
    sums = [sha256_of(tar_path.with_suffix(suffix)) for suffix in (".idx", ".parquet")]
    entry = ShardEntry(name, f"shards/{name}.tar", len(rows), writer.bytes, tar_sha256, sums[0], sums[1])
    return WrittenShard(entry, ledger)


def _row(sample: SamplePlan, error: MediaError | None) -> LedgerRow:
    row = sample.row
    if error is None:
        return LedgerRow(row.input_id, row.uri, "ok", clips=[Clip(sample.key, "ok", "")])
    status: Status = "filtered" if error.reason == "span" else "failed"
    return LedgerRow(
        row.input_id, row.uri, status, error.reason, error.detail, [Clip(sample.key, status, error.reason)]
    )


def _write_sample(
    writer: TarWriter,
    sample: SamplePlan,
    config: IngestConfig,
    action_ids: dict[str, int] | None,
    sandbox: Sandbox,
    scratch: Path,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=".clip-", dir=scratch) as folder:
        facts, video = _make_form(sample, config, sandbox, Path(folder) / "clip.mkv")
        row = _table_row(sample, facts, action_ids)
        record = {
            name: value for name, value in row.items() if name not in ("packets", "generation", "perceptual_hash")
        }
        if sample.row.extra:
            record["extra"] = sample.row.extra
        parts: dict[str, bytes | Path] = {
            sample.ext: video,
            "json": json.dumps(record, sort_keys=True, ensure_ascii=False, default=str).encode(),
        }
        if sample.row.caption:
            parts["txt"] = sample.row.caption.encode()
        return row | {"members": [asdict(member) for member in writer.add(sample.key, parts)]}


def _make_form(
    sample: SamplePlan, config: IngestConfig, sandbox: Sandbox, scratch: Path
) -> tuple[dict[str, Any], Path]:
    """The sample's facts with its packet table, and the file whose bytes go into the tar."""
    if not Path(sample.row.path).is_file():
        raise MediaError("missing", "the file went away while it was being ingested")
    try:
        if sample.form == "copy":
            if Path(sample.row.path).stat().st_size != sample.facts["bytes"]:
                raise MediaError("damaged", "the file changed while it was being ingested")
            packets = sandbox.call("packet_table", path=sample.row.path, frames=sample.facts["frames"])
            frames = sum(packet["pts"] is not None for packet in packets)
            return sample.facts | {"packets": packets, "frames": frames}, Path(sample.row.path)
        if sample.form == "remux":
            facts = sandbox.call("remux", path=sample.row.path, out=str(scratch))
            return facts | {"rotation": sample.facts["rotation"]}, scratch  # Matroska has no place for it
        span = {"start_seconds": sample.row.start_seconds, "end_seconds": sample.row.end_seconds}
        facts = sandbox.call("to_intra", path=sample.row.path, out=str(scratch), short_side=config.short_side, **span)
        return facts, scratch
    except OSError as error:
        raise storage_error(scratch, error) from error


def _table_row(sample: SamplePlan, facts: dict[str, Any], action_ids: dict[str, int] | None) -> dict[str, Any]:
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
        "start_seconds": row.start_seconds,
        "end_seconds": row.end_seconds,
        "perceptual_hash": None,
        "generation": 0,
    }
    return named | {name: facts[name] for name in SAMPLE.names if name in facts}
