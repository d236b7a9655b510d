"""What became of every input: one row each, with a status and a reason from closed lists."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from .files import atomic_file

NAME = "ledger.parquet"
Status = Literal["ok", "duplicate", "filtered", "failed"]
Reason = Literal[
    "",  # ok
    "exact",  # duplicate: the same bytes
    "stream",  # duplicate: the same compressed video in another container
    "perceptual",  # duplicate: the same pictures, encoded, scaled, timed or trimmed otherwise
    "span",  # filtered: the asked span lies outside the video
    "missing",  # failed: no such file
    "unreadable",  # failed: the file cannot be opened for reading
    "network",  # failed: the server did not deliver the file, tried several times
    "changed",  # failed: the file changed while it was being ingested
    "empty",  # failed: no bytes
    "not_video",  # failed: no container that FFmpeg knows
    "no_video_stream",  # failed: sound or subtitles only
    "damaged",  # failed: the stream does not decode to its end
    "limit",  # failed: more CPU time, memory or pixels than a video may take
    "crashed",  # failed: the decoder brought its process down
    "transcode",  # failed: the training form could not be made
    "unknown_label",  # failed: the bank has no such action
]
REASONS: tuple[str, ...] = get_args(Reason)

SCHEMA = pa.schema(
    [
        ("input_id", pa.string()),
        ("uri", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("clips", pa.list_(pa.struct([("key", pa.string()), ("status", pa.string()), ("reason", pa.string())]))),
        ("generation", pa.int32()),  # the one that decided this row
        ("duplicate_of", pa.string()),  # input_id of the one that was kept
        # what deduplication compares with in later generations, of the source; null where it was not read
        ("source_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("stream_hash", pa.string()),
        ("fingerprint", pa.binary()),
    ]
)


@dataclass(frozen=True, slots=True)
class Clip:
    """What became of one clip of an input."""

    key: str
    status: Status
    reason: Reason


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What became of one input."""

    input_id: str
    uri: str
    status: Status
    reason: Reason = ""
    detail: str = ""
    clips: list[Clip] = field(default_factory=list)
    generation: int = 0
    duplicate_of: str | None = None
    source_bytes: int | None = None
    sha256: str | None = None
    stream_hash: str | None = None
    fingerprint: bytes | None = None

    def __post_init__(self) -> None:
        assert self.status in get_args(Status), self.status
        assert self.reason in REASONS, self.reason


@contextmanager
def ledger_writer(path: Path) -> Iterator[Callable[[Sequence[LedgerRow]], None]]:
    """Write a ledger piece by piece, one row group per call; the file appears whole or not at all."""
    with atomic_file(path) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA))


def read_ledger(
    folder: Path, columns: Sequence[str] | None = None, where: tuple[str, str, str] | None = None
) -> pa.Table:
    """The ledger of a dataset, one row per input; `where` keeps some of them: ("status", "==", "failed")."""
    names = None if columns is None else list(columns)
    return pq.read_table(folder / NAME, schema=SCHEMA, columns=names, filters=None if where is None else [where])


def row_of(record: dict[str, object]) -> LedgerRow:
    """A row of the table as an object."""
    clips = [Clip(**clip) for clip in record["clips"]]  # type: ignore[attr-defined]
    return LedgerRow(**(record | {"clips": clips}))  # type: ignore[arg-type]


def count(statuses: Iterable[str]) -> dict[str, int]:
    """How many inputs ended in each status; every status is present."""
    counts = Counter(statuses)
    return {status: counts[status] for status in get_args(Status)}
