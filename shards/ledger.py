"""What became of every input: one row each, with a status and a reason from closed lists."""

from collections import Counter
from collections.abc import Iterable
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
    "span",  # filtered: the asked span lies outside the video
    "missing",  # failed: no such file
    "unreadable",  # failed: the file cannot be opened for reading
    "empty",  # failed: no bytes
    "not_video",  # failed: no container that FFmpeg knows
    "no_video_stream",  # failed: sound or subtitles only
    "damaged",  # failed: the stream does not decode to its end
    "limit",  # failed: more CPU time or memory than a video may take
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
        ("generation", pa.int32()),
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

    def __post_init__(self) -> None:
        assert self.status in get_args(Status), self.status
        assert self.reason in REASONS, self.reason


def write_ledger(folder: Path, rows: Iterable[LedgerRow]) -> None:
    """Write ledger.parquet, whole or not at all."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    with atomic_file(folder / NAME) as file:
        pq.write_table(table, file)


def read_ledger(folder: Path) -> pa.Table:
    """The ledger of a dataset, one row per input."""
    return pq.read_table(folder / NAME, schema=SCHEMA)


def count(rows: Iterable[LedgerRow]) -> dict[str, int]:
    """How many inputs ended in each status; every status is present."""
    counts = Counter(row.status for row in rows)
    return {status: counts[status] for status in get_args(Status)}
