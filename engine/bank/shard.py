"""A Parquet bank as WebDataset tars: one sample per action, its block of texts as json."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from ...shards.bank import Bank, block_bytes
from ...shards.files import atomic_file, make_folder, sha256_of, write_atomic
from ...shards.manifest import BankShard
from ...shards.tar import TarWriter

SHARD_BYTES = 256_000_000


def write_bank_tars(bank: Path, dataset: Path, *, spellings: Mapping[str, int], first: int = 0) -> list[BankShard]:
    """Write a bank into a dataset's folder as bank/000000.tar …; actions in the bank's order.

    Args:
        bank: a Parquet bank.
        dataset: the folder of the dataset.
        spellings: the dataset's labels → action id; they become aliases, so that the carried bank finds them.
        first: number of the first tar.

    Raises:
        StorageError: the disk refused.
    """
    actions = Bank.open(bank).actions
    sources = pq.read_table(bank / "descriptions" / "000000.parquet", columns=["text", "source"])
    make_folder(dataset / "bank")
    blocks, first = [], 0
    for action in actions:
        rows = sources.slice(first, action.descriptions)
        first += action.descriptions
        texts, origins = rows.column("text").to_pylist(), rows.column("source").to_pylist()
        aliases = set(action.aliases) | {label for label, number in spellings.items() if number == action.action_id}
        action = replace(action, aliases=tuple(sorted(aliases)))
        blocks.append((f"{action.action_id:016x}", block_bytes(action, texts, origins)))
    shards: list[BankShard] = []
    while blocks:
        path = dataset / "bank" / f"{first + len(shards):06d}.tar"
        with atomic_file(path) as file:
            writer = TarWriter(file)
            while blocks and (writer.bytes == 0 or writer.bytes + len(blocks[0][1]) <= SHARD_BYTES):
                key, block = blocks.pop(0)
                writer.add(key, {"json": block})
            sha256 = writer.close()
        write_atomic(path.with_suffix(".idx"), writer.index())
        uri = f"bank/{path.name}"
        shards.append(BankShard(uri, writer.bytes, sha256, sha256_of(path.with_suffix(".idx"))))
    return shards
