"""How fast raw videos become shards: every way of ours and its rivals over the same files, in turn."""

import gc
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from .. import console
from ..engine.cluster import ray_session
from ..engine.config import IngestConfig, Preset, Validate
from ..engine.ingest import ingest
from ..shards.errors import UsageError
from .clips import write_clips
from .environment import RESULTS, append, capture
from .ingest_peers import PEERS, SHARD_BYTES, WORKERS

OURS: tuple[tuple[Preset, Validate], ...] = (
    ("archive", "none"),
    ("archive", "packets"),
    ("archive", "decode"),
    ("train-cpu", "decode"),
)
LIMIT = "tar + sha256sum + fsync"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchIngestConfig:
    """Time `ingest` (probe, plan, write, commit) beside other writers of tars, on rendered clips or your own videos."""

    input: Path | None = None
    """A flat folder of mp4 files; without it clips of 10 s at 320x240 are rendered."""
    videos: int = 400
    """Clips to render, >= 8."""
    repeats: int = 3
    """Runs of each way, in turn; the median counts. > 0."""
    results: Path = RESULTS / "ingest.jsonl"
    """File to which one line per way is appended."""

    def __post_init__(self) -> None:
        if self.videos < 8 or self.repeats <= 0:
            raise UsageError(f"videos must be >= 8 and repeats > 0, got {self.videos} and {self.repeats}")


def bench_ingest(config: BenchIngestConfig) -> int:
    """`reelmill bench ingest`."""
    with tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch, ray_session(None, WORKERS):
        folder = Path(scratch)
        videos = config.input or write_clips(folder / "videos", config.videos)
        files = sorted(videos.iterdir())
        source_bytes = sum(path.stat().st_size for path in files)
        ways: dict[str, Callable[[Path, Path], None]] = dict(PEERS)
        for preset, validate in OURS:
            ways[f"{preset}, validate {validate}"] = partial(_ingest, preset, validate)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        warm = folder / "warm-up"  # Ray's workers and their sandboxes take seconds to come up
        warm.mkdir()
        for path in files[:8]:
            shutil.copy(path, warm / path.name)
        with console.progress((config.repeats + 1) * len(ways), "runs") as shown:
            for source, repeats in ((warm, 1), (videos, config.repeats)):
                for _ in range(repeats):
                    for name, way in ways.items():
                        spent = _time(way, source, folder / "out")
                        if source is videos:
                            seconds[name].append(spent)
                        shown.update()
    rows = []
    for name, runs in seconds.items():
        rate = source_bytes / median(runs) / 1e6
        clips_per_second = len(files) / median(runs)
        of_limit = median(seconds[LIMIT]) / median(runs)
        record = {"bench": "ingest", "way": name, "workers": WORKERS, "videos": len(files), "bytes": source_bytes}
        record |= {"seconds": [round(each, 3) for each in runs], "clips_per_second": round(clips_per_second, 1)}
        record |= {"mb_per_second": round(rate, 1), "of_limit": round(of_limit, 3), "rendered": config.input is None}
        append(config.results, record | capture())
        rows.append((name, f"{clips_per_second:7.1f} clips/s  {rate:6.1f} MB/s  {of_limit:.2f} of the limit"))
    console.table(f"ingest of {len(files)} videos", [*rows, ("appended to", str(config.results))])
    return 0


def _ingest(preset: Preset, validate: Validate, source: Path, out: Path) -> None:
    shard_mb = SHARD_BYTES // 1_000_000
    ingest(IngestConfig(input=source, out=out, preset=preset, validate=validate, shard_mb=shard_mb))


def _time(way: Callable[[Path, Path], object], source: Path, out: Path) -> float:
    gc.collect()
    start = time.monotonic()
    way(source, out)
    spent = time.monotonic() - start
    shutil.rmtree(out)
    return spent
