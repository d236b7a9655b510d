"""How fast records become a bank, and how fast descriptions are drawn from it."""

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .. import console
from ..engine.bank.build import build_bank
from ..engine.config import BankBuildConfig
from ..shards.bank import Bank
from ..shards.order import random_words
from .environment import RESULTS, append, capture

ACTIONS = 1000
DRAWS = 2000
PER_DRAW = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchBankConfig:
    """Time `bank build` on generated records, and seeded draws from the memory-mapped bank."""

    records: int = 100_000
    """Records to generate, over 1,000 actions."""
    results: Path = RESULTS / "bank.jsonl"
    """File to which one line is appended."""


def bench_bank(config: BenchBankConfig) -> int:
    """`reelmill bench bank`."""
    with tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch:
        folder = Path(scratch)
        source = folder / "records.jsonl"
        with source.open("w") as file:
            for number, word in enumerate(random_words(config.records, "bench bank").tolist()):
                text = f"description {number} says {word:016x} and some more words of a usual length"
                file.write(json.dumps({"action": f"action {number % ACTIONS}", "text": text, "source": "bench"}) + "\n")
        start = time.monotonic()
        totals = build_bank(BankBuildConfig(records=source, out=folder / "bank"))
        build_seconds = time.monotonic() - start
        bank = Bank.open(folder / "bank")
        start = time.monotonic()
        for number in range(DRAWS):
            bank.draw(bank.actions[number % len(bank.actions)].action_id, PER_DRAW, seed=number)
        draw_seconds = time.monotonic() - start
        size = sum(path.stat().st_size for path in (folder / "bank").rglob("*") if path.is_file())
    record = {
        "bench": "bank",
        "records": config.records,
        "actions": totals.actions,
        "build_seconds": round(build_seconds, 3),
        "records_per_second": round(config.records / build_seconds),
        "draws_per_second": round(DRAWS / draw_seconds),
        "descriptions_per_draw": PER_DRAW,
        "bank_bytes": size,
    }
    append(config.results, record | capture())
    rows = [
        ("build", f"{record['records_per_second']} records/s"),
        ("draw", f"{record['draws_per_second']} draws/s of {PER_DRAW} descriptions"),
        ("size", console.human_bytes(size)),
        ("appended to", str(config.results)),
    ]
    console.table(f"bank of {config.records} records", rows)
    return 0
