"""How fast and how well records become a bank, in which memory, of which size; how fast texts are drawn from it."""

import itertools
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from .. import console
from ..shards.bank import Bank
from ..shards.bank.files import BankRecord, read_record
from ..shards.errors import ReelmillError, UsageError
from .bank_kills import build_command, kill_builds
from .bank_records import DUPLICATES, FAILED, KINDS, Written, write_records, write_vectors
from .bank_tars import tar_bytes
from .environment import RESULTS, append, capture
from .processes import resident_bytes, tree

SAMPLE_SECONDS = 0.2
DRAWS, PER_DRAW = 2000, 100
LEAST_RECALL, LEAST_PRECISION = 0.95, 0.99
TOP_K = 100
MOST_SECONDS, MOST_BYTES, MOST_OF_TARS = 900.0, 4_000_000_000, 0.05  # for the last number of records


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchBankConfig:
    """Build banks of generated records: time, memory, size, what is found of the planted duplicates; and draws."""

    records: tuple[int, ...] = (36_000, 360_000, 3_600_000)
    """Numbers of records, ascending, each >= 1000; the last takes some 2 GB of disk for a while."""
    seed: int = 0
    """Draws the records."""
    kills: int = 0
    """Then kill builds of the first number of records so often at random moments, and compare every byte; >= 0."""
    results: Path = RESULTS / "bank.jsonl"
    """File to which one line per number of records is appended."""

    def __post_init__(self) -> None:
        if not self.records or sorted(set(self.records)) != list(self.records) or self.records[0] < 1000:
            raise UsageError(f"records must be ascending numbers >= 1000, got {self.records}")
        if self.kills < 0:
            raise UsageError(f"kills must be >= 0, got {self.kills}")


@dataclass(frozen=True, slots=True)
class _Run:
    """What one command took."""

    seconds: float
    peak_bytes: int
    """Resident memory of all its processes together, at its highest; pages that they share count for each."""
    peak_process_bytes: int


def bench_bank(config: BenchBankConfig) -> int:
    """`reelmill bench bank`."""
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch:
        for rows in config.records:
            records.append(_measure(Path(scratch) / str(rows), rows, config.seed))
        if config.kills:
            first, rows = records[0], config.records[0]
            folder, options = Path(scratch) / str(rows), {"kills": config.kills, "seed": config.seed}
            records.append(kill_builds(folder, **options, records=rows, build_seconds=first["build_seconds"]))
    machine = capture()
    for record in records:
        append(config.results, {"bench": "bank"} | record | machine)
    sizes = [record for record in records if record["part"] == "build"]
    for record in sizes:
        console.table(f"bank of {record['records']} records", _rows(record))
    summary = [("cost grows as", f"n^{each:.2f}") for each in _exponents(sizes)]
    summary += [("builds that differ after kills", str(r["different"])) for r in records if r["part"] == "kills"]
    console.table("all", [*summary, ("appended to", str(config.results))])
    faults = _faults(sizes) + [f"{r['different']} builds differ after kills" for r in records if r.get("different")]
    if faults:
        raise ReelmillError(f"bench bank: {'; '.join(faults)}")
    return 0


def _faults(sizes: list[dict[str, Any]]) -> list[str]:
    """What misses a bound; time, memory and size have theirs for the largest bank of millions only."""
    faults = []
    for record in sizes:
        for name, least in (("recall", LEAST_RECALL), ("precision", LEAST_PRECISION)):
            if record[name] < least:
                faults.append(f"{name} of {record['records']} records must be >= {least}, is {record[name]}")
    last = sizes[-1]
    bounds = {"seconds": MOST_SECONDS, "peak_bytes": MOST_BYTES, "select_peak_bytes": MOST_BYTES}
    bounds["of_tars_plain"] = MOST_OF_TARS
    if last["records"] >= 3_600_000:
        faults += [f"{name} must be < {most}, is {last[name]}" for name, most in bounds.items() if last[name] >= most]
    return faults


def _measure(folder: Path, rows: int, seed: int) -> dict[str, Any]:
    with console.progress(None, f"writing {rows} records", "files") as shown:
        written = write_records(folder, rows, seed)
        shown.update()
    bank = folder / "bank"
    build = _timed(build_command(written, bank), folder / "build.log")
    words = [sys.executable, "-m", "reelmill", "bank", "select", str(bank), str(folder / "selected")]
    words += ["--top-k", str(TOP_K), "--vectors", str(write_vectors(folder, seed))]
    select = _timed(words, folder / "select.log")
    kept = Bank.open(folder / "selected").actions
    assert max(action.descriptions for action in kept) <= TOP_K, "an action keeps more than it may"
    record = read_record(bank)
    result: dict[str, Any] = {"part": "build", "records": rows, "input_bytes": written.records.stat().st_size}
    result |= {"build_seconds": round(build.seconds, 2), "records_per_second": round(rows / build.seconds)}
    result |= {"select_seconds": round(select.seconds, 2), "seconds": round(build.seconds + select.seconds, 2)}
    result |= {"peak_bytes": build.peak_bytes, "peak_process_bytes": build.peak_process_bytes}
    result |= {"select_peak_bytes": select.peak_bytes, "selected": sum(action.descriptions for action in kept)}
    result |= {"totals": dict(record.totals), "parts": len(record.parts)}
    result |= _quality(bank, record, written)
    result |= _sizes(bank, record)
    return result | _draws(bank)


def _timed(command: list[str], log: Path) -> _Run:
    """Run a command to its end, and watch the memory of all its processes."""
    start, peak, largest = time.monotonic(), 0, 0
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        while process.poll() is None:
            sizes = [resident_bytes(pid) for pid in tree(process.pid)]
            peak, largest = max(peak, sum(sizes)), max(largest, *sizes)
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise ReelmillError(f"{' '.join(command)} must end well, but: {log.read_text()[-2000:]}")
    return _Run(time.monotonic() - start, peak, largest)


def _quality(bank: Path, record: BankRecord, written: Written) -> dict[str, Any]:
    """What became of what was planted; of noise, how many records are not in the ledger for it."""
    ledger = pq.read_table(bank / record.ledgers[0], columns=["row", "status"])
    rows, status = ledger.column("row").to_numpy() - 1, np.array(ledger.column("status").to_pylist())
    gone = np.zeros(len(written.kinds), np.bool_)
    gone[rows[status == "duplicate"]] = True
    failed = np.zeros(len(written.kinds), np.bool_)
    failed[rows[status != "duplicate"]] = True
    recalls = {kind: float(gone[written.kinds == KINDS.index(kind)].mean()) for kind in DUPLICATES}
    planted = np.isin(written.kinds, [KINDS.index(kind) for kind in DUPLICATES])
    noise = np.isin(written.kinds, [KINDS.index(kind) for kind in FAILED])
    assert len(set(rows.tolist())) == len(rows), "a record stands in the ledger twice"
    return {
        "recall": round(float(gone[planted].mean()), 5),
        "recalls": {kind: round(value, 5) for kind, value in recalls.items()},
        "precision": round(float(planted[gone].mean()), 5),
        "cousins_lost": int(gone[written.kinds == KINDS.index("cousin")].sum()),
        "noise_missed": int((noise & ~failed).sum()),
        "kept_for_noise": int((failed & ~noise).sum()),
    }


def _sizes(bank: Path, record: BankRecord) -> dict[str, Any]:
    tables = sum(record.files[part.table].bytes for part in record.parts)
    side = sum(record.files[part.texts].bytes for part in record.parts)
    result: dict[str, Any] = {"parquet_bytes": tables, "side_file_bytes": side}
    for name, size in tar_bytes(bank, record).items():
        result |= {f"tar_bytes_{name}": size, f"of_tars_{name}": round(tables / size, 4)}
    return result


def _draws(folder: Path) -> dict[str, Any]:
    bank = Bank.open(folder)
    actions = [action.action_id for action in bank.actions if action.descriptions >= PER_DRAW]
    if not actions:
        return {}
    for action in actions:
        bank.draw(action, PER_DRAW, seed=0)
    largest = max(bank.actions, key=lambda action: action.descriptions)
    milliseconds = {}
    for name, ids in (("any", actions), ("largest", [largest.action_id])):
        start = time.monotonic()
        for number in range(DRAWS if name == "any" else 20):
            bank.draw(ids[number % len(ids)], PER_DRAW, seed=number)
        milliseconds[name] = round(1000 * (time.monotonic() - start) / (DRAWS if name == "any" else 20), 3)
    return {"descriptions_per_draw": PER_DRAW, "draw_ms": milliseconds}


def _rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("build", f"{record['build_seconds']} s, {record['records_per_second']} records/s")]
    rows += [(f"select {TOP_K} of each action", f"{record['select_seconds']} s, {record['selected']} in all")]
    one, select = (console.human_bytes(record[f"{name}_bytes"]) for name in ("peak_process", "select_peak"))
    whole = console.human_bytes(record["peak_bytes"])
    rows += [("memory", f"build {whole} at most, {one} of one process; select {select}")]
    recalls = ", ".join(f"{kind} {value}" for kind, value in record["recalls"].items())
    rows += [("planted duplicates", f"recall {record['recall']}, precision {record['precision']} ({recalls})")]
    rows += [("noise", f"{record['noise_missed']} missed, {record['kept_for_noise']} others taken for it")]
    tables, side = (console.human_bytes(record[name]) for name in ("parquet_bytes", "side_file_bytes"))
    rows += [("size", f"{tables} of Parquet, {_shares(record)} of tars; {side} beside it for draws")]
    if "draw_ms" in record:
        each = record["draw_ms"]
        rows += [(f"a draw of {PER_DRAW}", f"{each['any']} ms, {each['largest']} ms of the largest action")]
    return rows


def _shares(record: dict[str, Any]) -> str:
    return ", ".join(f"{record[f'of_tars_{name}']:.1%} ({name})" for name in ("plain", "text", "record"))


def _exponents(records: list[dict[str, Any]]) -> list[float]:
    """Between neighbouring sizes: cost grows as the number of records to this power."""
    pairs = itertools.pairwise(records)
    return [math.log(b["seconds"] / a["seconds"]) / math.log(b["records"] / a["records"]) for a, b in pairs]
