"""`reelmill bank shard`."""

import time

from ... import console
from .config import ShardConfig
from .shard import shard_bank


def bank_shard(config: ShardConfig) -> int:
    """`reelmill bank shard BANK OUT`."""
    start = time.monotonic()
    done = shard_bank(config)
    size = console.human_bytes(sum(shard.bytes for shard in done.shards))
    rows = [("actions", str(done.actions)), ("descriptions", str(done.descriptions))]
    rows += [("tars", f"{len(done.shards)} of {size} in all"), ("folder", str(config.out / "bank"))]
    console.table(f"bank written as tars in {time.monotonic() - start:.1f} s", rows)
    return 0
