"""Write one shard: tar, index and table under temporary names, then renamed. A pure function of its plan."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..shards.files import atomic_file, make_folder, sha256_of, write_atomic
from ..shards.ledger import Reason
from ..shards.manifest import ShardEntry
from ..shards.schema import SAMPLE, action_id
from ..shards.table import packet_table, sample_table
from ..shards.tar import TarWriter
from .bank.names.actions import canonical_name
from .config import IngestConfig
from .errors import MediaError
from .fetch import local_copy, version_of
from .form import make_form
from .media.sandbox import Sandbox
from .plan import SamplePlan
from .work import Work


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
    work: Work,
    config: IngestConfig,
    generation: int,
    action_ids: dict[str, int] | None,
    sandbox: Sandbox,
) -> WrittenShard:
    """Write shard `number` of a dataset.

    Args:
        samples: in the order in which they go into the tar.
        number: of the shard, its file name.
        work: the scratch folder of the ingest into that dataset.
        config: the job's options.
        generation: that the shard belongs to.
        action_ids: of every label, from a bank; None names actions by the label itself.
        sandbox: does what touches the videos.

    Raises:
        StorageError: the disk refused.
    """
    tar_path = work.folder.parent / "shards" / f"{number:06d}.tar"
    make_folder(tar_path.parent)
    failures: dict[str, tuple[Reason, str]] = {}
    rows: list[dict[str, Any]] = []
    forms = _Forms(config, sandbox, work)
    with atomic_file(tar_path) as file:
        writer = TarWriter(file)
        for sample in samples:
            try:
                with forms.make(sample) as (facts, video):
                    row = _table_row(sample, facts, generation, action_ids)
                    members = writer.add(sample.key, _parts(sample, row, video))
                    rows.append(row | {"members": [asdict(member) for member in members]})
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
        pq.write_table(sample_table(rows), file, compression="zstd")
    sums = [sha256_of(tar.with_suffix(suffix)) for suffix in (".idx", ".parquet")]
    return ShardEntry(tar.stem, f"shards/{tar.name}", len(rows), tar.stat().st_size, tar_sha256, *sums)


class _Forms:
    """Makes what goes into the tar of each sample."""

    def __init__(self, config: IngestConfig, sandbox: Sandbox, work: Work) -> None:
        self._config, self._sandbox, self._work = config, sandbox, work
        self._batch: tuple[int, Any] = (-1, None)  # the packet tables of the batch that was looked at last

    @contextmanager
    def make(self, sample: SamplePlan) -> Iterator[tuple[dict[str, Any], Path]]:
        """The sample's facts with its packet table, and the file whose bytes go into the tar, for the block.

        Raises:
            MediaError: the video is not what it was, or does not take the form.
        """
        version, limit = sample.facts["version"], self._config.max_video_mb * 1_000_000
        with local_copy(sample.row, self._work.scratch, max_bytes=limit, version=version) as source:
            if version_of(sample.row.path, frames=sample.row.frames_fps is not None) != version:
                raise MediaError("changed", "the file changed while it was being ingested")
            if sample.form == "copy":
                yield sample.facts | {"packets": self._packets(*sample.facts["at"])}, source
                return
            with tempfile.TemporaryDirectory(dir=self._work.scratch) as folder:
                facts, out = make_form(sample, source, self._config, self._sandbox, Path(folder) / "clip")
                yield facts | {"packets": packet_table(facts["packets"])}, out

    def _packets(self, batch: int, place: int) -> pa.StructArray:
        if self._batch[0] != batch:
            self._batch = (batch, self._work.packets(batch))
        return self._batch[1][place].values


def _parts(sample: SamplePlan, row: dict[str, Any], video: Path) -> dict[str, bytes | Path]:
    record = {name: value for name, value in row.items() if name not in ("packets", "generation", "perceptual_hash")}
    if sample.row.extra:
        record["extra"] = sample.row.extra
    text = json.dumps(record, sort_keys=True, ensure_ascii=False).encode()
    parts: dict[str, bytes | Path] = {sample.ext: video, "json": text}
    if sample.row.caption:
        parts["txt"] = sample.row.caption.encode()
    return parts


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
