"""How fast and how well records become a bank, in which memory, of which size; how fast texts are drawn from it."""

import contextlib
import itertools
import math
import os
import random
import signal
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
from ..shards.files import sha256_of
from .bank_records import DUPLICATES, FAILED, KINDS, Written, write_records
from .bank_tars import tar_bytes
from .environment import RESULTS, append, capture
from .processes import command_line, resident_bytes, tree

SAMPLE_SECONDS = 0.2
DRAWS, PER_DRAW = 2000, 100
LEAST_RECALL, LEAST_PRECISION = 0.95, 0.99
KILL_WITHIN = (0.3, 1.0)  # of what a build takes
MOST_RUNS = 200


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
            records.append(_kill(Path(scratch) / str(config.records[0]), config, records[0]["build_seconds"]))
    machine = capture()
    for record in records:
        append(config.results, {"bench": "bank"} | record | machine)
    sizes = [record for record in records if record["part"] == "build"]
    for record in sizes:
        console.table(f"bank of {record['records']} records", _rows(record))
    summary = [("cost grows as", f"n^{each:.2f}") for each in _exponents(sizes)]
    summary += [("builds that differ after kills", str(r["different"])) for r in records if r["part"] == "kills"]
    console.table("all", [*summary, ("appended to", str(config.results))])
    wrong = [record for record in records if record.get("different")]
    if wrong or any(r["recall"] < LEAST_RECALL or r["precision"] < LEAST_PRECISION for r in sizes):
        raise ReelmillError(f"recall must be >= {LEAST_RECALL}, precision >= {LEAST_PRECISION}, and no build differ")
    return 0


def _measure(folder: Path, rows: int, seed: int) -> dict[str, Any]:
    with console.progress(None, f"writing {rows} records", "files") as shown:
        written = write_records(folder, rows, seed)
        shown.update()
    bank = folder / "bank"
    build = _timed(_command(written, bank), folder / "build.log")
    record = read_record(bank)
    result: dict[str, Any] = {"part": "build", "records": rows, "input_bytes": written.records.stat().st_size}
    result |= {"build_seconds": round(build.seconds, 2), "records_per_second": round(rows / build.seconds)}
    result |= {"peak_bytes": build.peak_bytes, "peak_process_bytes": build.peak_process_bytes}
    result |= {"totals": dict(record.totals), "parts": len(record.parts)}
    result |= _quality(bank, record, written)
    result |= _sizes(bank, record)
    return result | _draws(bank)


def _command(written: Written, out: Path) -> list[str]:
    words = [sys.executable, "-m", "reelmill", "bank", "build", str(written.records), str(out)]
    return [*words, "--labels", str(written.labels)]


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


def _kill(folder: Path, config: BenchBankConfig, build_seconds: float) -> dict[str, Any]:
    """SIGKILL a build or one of its workers at random moments until it ends all the same; then the next build."""
    pauses = [share * build_seconds for share in KILL_WITHIN]
    draw = random.Random(config.seed)
    written = Written(folder / "records.jsonl", folder / "labels.txt", np.empty(0, np.uint8))
    want, kills, runs, different = _hashes(folder / "bank"), 0, 0, 0
    with console.progress(config.kills, "kills", "kills") as shown:
        while kills < config.kills:
            out = folder / f"killed-{runs}"
            for _ in range(MOST_RUNS):
                pause = draw.uniform(*pauses) if kills < config.kills else math.inf
                killed, code = _killed(_command(written, out), out.with_suffix(".log"), draw, pause)
                kills += killed
                shown.update(killed)
                if code == 0 or (not (out / ".work").exists() and (out / "bank.json").exists()):
                    break
            else:
                raise ReelmillError(f"a build must end: {out.with_suffix('.log').read_text()[-2000:]}")
            runs += 1
            different += _hashes(out) != want
    return {"part": "kills", "records": config.records[0], "kills": kills, "builds": runs, "different": different}


def _killed(command: list[str], log: Path, draw: random.Random, pause: float) -> tuple[bool, int]:
    """Run a command, and kill it or a worker of it after a while; whether that came to pass, and its exit code."""
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            process.wait(None if pause == math.inf else pause)
            return False, process.returncode
        except subprocess.TimeoutExpired:
            workers = [pid for pid in tree(process.pid) if command_line(pid).startswith("ray::_")]
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice([process.pid, *workers]), signal.SIGKILL)
    return True, process.returncode


def _hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def _rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("build", f"{record['build_seconds']} s, {record['records_per_second']} records/s")]
    one = console.human_bytes(record["peak_process_bytes"])
    rows += [("memory", f"{console.human_bytes(record['peak_bytes'])} at most, {one} of one process")]
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
    return [math.log(b["build_seconds"] / a["build_seconds"]) / math.log(b["records"] / a["records"]) for a, b in pairs]
