"""Arrow tables of samples. Packet tables stay arrays all the way: a row per packet as Python objects costs most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .errors import DamageError
from .schema import PACKET, SAMPLE


@dataclass(frozen=True, slots=True)
class Packets:
    """The packets of one video, in decode order; N of them, see `schema.PACKET`."""

    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    pts: NDArray[np.int64]
    """0 where the packet shows no frame of its own."""
    shown: NDArray[np.bool_]
    keyframe: NDArray[np.bool_]

    @classmethod
    def of(cls, table: pa.StructArray) -> "Packets":
        """From a packet table.

        Raises:
            DamageError: a packet lacks a value that each has.
        """
        offset, size, pts, keyframe = table.flatten()
        for name, column in (("an offset", offset), ("a size", size), ("the keyframe flag", keyframe)):
            if column.null_count:
                raise DamageError(f"a packet table must tell {name} of every packet, {column.null_count} have none")
        shown = pts.is_valid().to_numpy(zero_copy_only=False)
        return cls(
            offset.to_numpy(),
            size.to_numpy().astype(np.int64),
            pts.fill_null(0).to_numpy(),
            shown,
            keyframe.to_numpy(zero_copy_only=False),
        )

    def __len__(self) -> int:
        return len(self.offset)


def packet_table(columns: Mapping[str, Sequence[Any]]) -> pa.StructArray:
    """The packets of one video.

    Args:
        columns: each field of `schema.PACKET`, over the packets in decode order.
    """
    arrays = [pa.array(columns[field.name], field.type) for field in PACKET]
    return pa.StructArray.from_arrays(arrays, fields=list(PACKET))


def packet_column(tables: Sequence[pa.StructArray | None]) -> pa.ListArray:
    """Packet tables as one column with a row per video; null where there is none."""
    empty = packet_table({field.name: [] for field in PACKET})
    known = [empty if table is None else table for table in tables]
    offsets = np.concatenate([[0], np.cumsum([len(table) for table in known])]).astype(np.int32)
    missing = pa.array([table is None for table in tables], pa.bool_())
    return pa.ListArray.from_arrays(offsets, pa.concat_arrays([empty, *known]), mask=missing)


def sample_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of `schema.SAMPLE`, of which `packets` is a packet table."""
    place = SAMPLE.get_field_index("packets")
    table = pa.Table.from_pylist([dict(row, packets=None) for row in rows], schema=SAMPLE.remove(place))
    return table.add_column(place, SAMPLE.field(place), packet_column([row["packets"] for row in rows]))
