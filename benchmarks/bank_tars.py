"""What the descriptions of a bank would take as WebDataset tars with one sample per description."""

import io
from pathlib import Path

import pyarrow.parquet as pq

from ..shards.bank.files import BankRecord

SAMPLED = 20_000
BLOCK_BYTES = 512


def tar_bytes(bank: Path, record: BankRecord) -> dict[str, int]:
    """Bytes of such tars, by what a sample holds.

    "plain": a .txt alone in the shortest tar there is, by rule: a header of 512 bytes and the text in blocks of 512.
    "text": a .txt alone, as webdataset's TarWriter writes it. "record": also a .json with action and source, as a bank
    needs. Measured on the first descriptions of every part and scaled by the number of descriptions.
    """
    from webdataset import TarWriter  # brings torch

    each = max(1, SAMPLED // len(record.parts))
    sizes, sampled = {"plain": 0, "text": 0, "record": 0}, 0
    for part in record.parts:
        table = pq.ParquetFile(bank / part.table)
        batch = next(table.iter_batches(each, columns=["action_id", "text", "source"]), None)
        rows = [] if batch is None else batch.to_pylist()
        sampled += len(rows)
        sizes["plain"] += sum(BLOCK_BYTES * (1 - -len(row["text"].encode()) // BLOCK_BYTES) for row in rows)
        for name in ("text", "record"):
            with TarWriter(io.BytesIO()) as writer:
                for number, row in enumerate(rows):
                    sample = {"__key__": f"{number:09d}", "txt": row["text"]}
                    rest = {"action": f"{row['action_id']:016x}", "source": row["source"]}
                    writer.write(sample | ({"json": rest} if name == "record" else {}))
                sizes[name] += writer.tarstream.offset
    kept = sum(part.rows for part in record.parts)
    return {name: size * kept // max(1, sampled) for name, size in sizes.items()}
