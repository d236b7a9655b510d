"""How much each description has to do with its action, as `reelmill bank select` found it."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import DamageError
from ..files import inside
from ..manifest import read_manifest
from .files import NAME, read_record
from .tars import stream_blocks

BATCH_ROWS = 1 << 16


def read_relevance(bank: str | Path) -> dict[int, NDArray[np.float32]]:
    """action_id → the relevance of each of its descriptions, in stored order; NaN where it was not scored. Actions
    without descriptions are left out.

    Args:
        bank: a bank's folder, or a dataset that carries one as tars; `Bank.open` takes the same.

    Raises:
        DamageError: a file of it does not read.
    """
    folder = Path(bank)
    found: dict[int, list[NDArray[np.float32]]] = defaultdict(list)
    if (folder / NAME).is_file():
        for part in read_record(folder).parts:
            _read_part(folder / part.table, found)
    else:
        for block in stream_blocks([inside(folder, shard.uri) for shard in read_manifest(folder).bank]):
            if block.rows.num_rows:
                found[block.facts["action_id"]].append(_floats(block.rows.column("relevance")))
    return {action: np.concatenate(pieces) for action, pieces in found.items()}


def _read_part(path: Path, found: dict[int, list[NDArray[np.float32]]]) -> None:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=["action_id", "relevance"], use_threads=False):
                ids, values = batch.column("action_id").to_numpy(), _floats(batch.column("relevance"))
                starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))
                for action, piece in zip(ids[starts].tolist(), np.split(values, starts[1:]), strict=True):
                    found[action].append(piece)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DamageError(f"{path} does not read: {error}") from error


def _floats(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float32]:
    values: NDArray[np.float32] = (
        column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    )
    return values.astype(np.float32)
