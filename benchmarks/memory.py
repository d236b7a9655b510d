"""What an ingest takes of memory while its input grows a hundredfold: the driver, and all that works for it."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import console
from ..shards.errors import ReelmillError, UsageError
from .clips import write_clips
from .environment import RESULTS, append, capture
from .processes import command_line, resident_bytes, tree

SAMPLE_SECONDS = 0.05
TOLERANCE = 1.1


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchMemoryConfig:
    """Ingest short clips, then many times as many, within one memory budget, and sample every process of the job."""

    videos: int = 100
    """Clips of the first ingest, >= 8."""
    times: int = 100
    """How many times as many the second one has, > 1."""
    seconds: float = 1.0
    """Length of a clip, > 0."""
    memory_mb: int = 1300
    """Budget of the tasks, MB; as `ingest --memory-mb`."""
    results: Path = RESULTS / "memory.jsonl"
    """File to which one line per ingest is appended."""

    def __post_init__(self) -> None:
        if self.videos < 8 or self.times <= 1 or self.seconds <= 0 or self.memory_mb <= 0:
            given = f"{self.videos}, {self.times}, {self.seconds} and {self.memory_mb}"
            raise UsageError(f"videos must be >= 8, times > 1, seconds and memory_mb > 0, got {given}")


@dataclass(slots=True)
class Peaks:
    """Most resident memory seen at one time; shared pages count once for every process that maps them."""

    driver: int = 0
    tasks: int = 0
    """Workers and their sandboxes together."""
    worker: int = 0
    sandbox: int = 0
    samples: int = field(default=0)

    def look(self, driver: int) -> None:
        """Take the memory of a driver and of what descends from it, now."""
        workers, sandboxes = [], []
        for pid in tree(driver):
            command = command_line(pid)
            if command.startswith("ray::"):
                workers.append(resident_bytes(pid))
            elif "reelmill.engine.media.child" in command:
                sandboxes.append(resident_bytes(pid))
        self.driver = max(self.driver, resident_bytes(driver))
        self.tasks = max(self.tasks, sum(workers) + sum(sandboxes))
        self.worker = max([self.worker, *workers])
        self.sandbox = max([self.sandbox, *sandboxes])
        self.samples += 1


def bench_memory(config: BenchMemoryConfig) -> int:
    """`reelmill bench memory`."""
    found: dict[int, tuple[Peaks, float]] = {}
    counts = (config.videos, config.videos * config.times)
    with (
        tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch,
        console.progress(2, "memory", "runs") as shown,
    ):
        for count in counts:
            videos = write_clips(Path(scratch) / f"{count}", count, seconds=config.seconds)
            found[count] = _ingest(videos, Path(scratch) / f"{count}-out", config.memory_mb)
            shown.update()
    rows = []
    for count, (peaks, seconds) in found.items():
        record: dict[str, Any] = {"bench": "memory", "videos": count, "budget_bytes": config.memory_mb * 1_000_000}
        record |= {"driver_bytes": peaks.driver, "tasks_bytes": peaks.tasks, "worker_bytes": peaks.worker}
        record |= {"sandbox_bytes": peaks.sandbox, "samples": peaks.samples, "seconds": round(seconds, 1)}
        append(config.results, record | capture())
        each = f"a worker {console.human_bytes(peaks.worker)}, a sandbox {console.human_bytes(peaks.sandbox)}"
        tasks = f"tasks {console.human_bytes(peaks.tasks)} of {config.memory_mb} MB ({each})"
        rows.append((f"{count} videos", f"driver {console.human_bytes(peaks.driver)}, {tasks}"))
    rows += _verdict([found[count][0] for count in counts], config)
    console.table("most memory at one time", [*rows, ("appended to", str(config.results))])
    return 0


def _verdict(peaks: Sequence[Peaks], config: BenchMemoryConfig) -> list[tuple[str, str]]:
    few, many = peaks
    within = many.tasks <= TOLERANCE * config.memory_mb * 1_000_000
    growth = f"driver x {many.driver / few.driver:.2f}, tasks x {many.tasks / few.tasks:.2f}"
    return [
        (f"{config.times} times the input", growth),
        ("tasks within the budget, 10 % more allowed", "yes" if within else "NO"),
    ]


def _ingest(videos: Path, out: Path, memory_mb: int) -> tuple[Peaks, float]:
    command = [sys.executable, "-m", "reelmill", "ingest", str(videos), str(out), "--memory-mb", str(memory_mb)]
    log, peaks, start = out.with_suffix(".log"), Peaks(), time.monotonic()
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as driver:
        while driver.poll() is None:
            peaks.look(driver.pid)
            time.sleep(SAMPLE_SECONDS)
    if driver.returncode != 0:
        raise ReelmillError(f"the ingest must end well, but: {log.read_text()[-2000:]}")
    return peaks, time.monotonic() - start
