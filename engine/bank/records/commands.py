"""The commands that make a bank out of records."""

import time
from pathlib import Path

from .... import console
from ....shards.bank.files import BankRecord, read_record
from .add import add_to_bank
from .build import build_bank
from .config import BankAddConfig, BankBuildConfig


def bank_build(config: BankBuildConfig) -> int:
    """`reelmill bank build RECORDS OUT`."""
    start = time.monotonic()
    totals = build_bank(config)
    rows = [("actions", str(totals.actions)), ("descriptions", str(totals.descriptions))]
    rows += _aside(read_record(config.out), config.out)
    console.table(f"bank built of {totals.records} records in {time.monotonic() - start:.1f} s", rows)
    return 0


def bank_add(config: BankAddConfig) -> int:
    """`reelmill bank add BANK RECORDS`."""
    start = time.monotonic()
    added = add_to_bank(config)
    record = read_record(config.bank)
    rows = [("new descriptions", str(added.descriptions)), ("new actions", str(added.actions))]
    rows += [("parts rewritten", f"{added.parts} of {len(record.parts)}")]
    rows += [("descriptions now", str(added.totals.descriptions)), ("actions now", str(added.totals.actions))]
    what = f"{added.records} records added" if added.records else "nothing added: the bank has these records already"
    console.table(f"{what} in {time.monotonic() - start:.1f} s", [*rows, *_aside(record, config.bank)])
    return 0


def _aside(record: BankRecord, folder: Path) -> list[tuple[str, str]]:
    """What was not kept, by reason, and where each of these records is listed."""
    rows: list[tuple[str, str]] = []
    for status in ("duplicate", "filtered", "failed"):
        if record.totals[status]:
            rows.append((status, str(record.totals[status])))
    if record.reasons:
        rows.append(("set aside", ", ".join(f"{count} {reason}" for reason, count in record.reasons.items())))
        rows.append(("each of them", ", ".join(str(folder / name) for name in record.ledgers)))
    rows.append(("merged names", f"{folder / record.merges} (edit it and give it as --overrides)"))
    size = sum(entry.bytes for entry in record.files.values())
    rows.append(("bank", f"{folder}, {console.human_bytes(size)}"))
    return rows
