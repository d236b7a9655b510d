"""How fast raw videos become shards: every way of ours and its rivals over the same files, in turn."""

import gc
import shutil
import tempfile
import time
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
from .ingest_peers import PEERS, SHARD_BYTES, WORKERS, Way, video2dataset

OURS: tuple[tuple[Preset, Validate], ...] = (
    ("archive", "none"),
    ("archive", "packets"),
    ("archive", "decode"),
    ("train-cpu", "decode"),
)
SCALED: tuple[Preset, Validate] = ("archive", "decode")  # the way whose scaling from one worker is measured
LIMIT = "tar + sha256sum + fsync"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchIngestConfig:
    """Time `ingest` (probe, plan, write, commit) beside other writers of tars, on rendered clips or your own videos."""

    input: Path | None = None
    """A flat folder of mp4 files; without it clips at 340x256 are rendered."""
    videos: int = 400
    """Clips to render, >= 8."""
    seconds: float = 10.0
    """Length of a rendered clip, > 0; one of 10 s takes about 0.5 MB."""
    repeats: int = 3
    """Runs of each way, in turn; the median counts. > 0."""
    encode: bool = True
    """Also time the encoding preset, which takes longest by far."""
    video2dataset: Path | None = None
    """Python of an environment with video2dataset, to time it too (`ingest_peers.video2dataset` says how)."""
    results: Path = RESULTS / "ingest.jsonl"
    """File to which one line per way is appended."""

    def __post_init__(self) -> None:
        if self.videos < 8 or self.repeats <= 0 or self.seconds <= 0:
            given = f"{self.videos}, {self.repeats} and {self.seconds}"
            raise UsageError(f"videos must be >= 8, repeats > 0 and seconds > 0, got {given}")


def bench_ingest(config: BenchIngestConfig) -> int:
    """`reelmill bench ingest`."""
    with tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch:
        folder = Path(scratch)
        videos = config.input or write_clips(folder / "videos", config.videos, seconds=config.seconds)
        with ray_session(None, WORKERS):
            seconds = _in_turn(_ways(config), videos, folder, config.repeats)
        alone = f"{_name(*SCALED)}, 1 worker"
        with ray_session(None, 1):
            seconds |= _in_turn({alone: partial(_ingest, *SCALED)}, videos, folder, config.repeats)
        sizes = [path.stat().st_size for path in sorted(videos.iterdir())]
    rows = []
    for name, runs in seconds.items():
        middle = median(runs)
        record = {"bench": "ingest", "way": name, "workers": 1 if name == alone else WORKERS, "videos": len(sizes)}
        record |= {"bytes": sum(sizes), "seconds": [round(each, 3) for each in runs], "rendered": config.input is None}
        record |= {"clips_per_second": round(len(sizes) / middle, 1), "mb_per_second": round(sum(sizes) / middle / 1e6)}
        record |= {"of_limit": round(median(seconds[LIMIT]) / middle, 3)}
        append(config.results, record | capture())
        rate = f"{record['clips_per_second']:7.1f} clips/s  {record['mb_per_second']:4.0f} MB/s"
        rows.append((name, f"{rate}  {record['of_limit']:.2f} of the limit"))
    rows.append((f"{_name(*SCALED)}, 1 → {WORKERS}", f"{median(seconds[alone]) / median(seconds[_name(*SCALED)]):.2f}"))
    title = f"ingest of {len(sizes)} videos, {sum(sizes) / len(sizes) / 1e6:.2f} MB each"
    console.table(title, [*rows, ("appended to", str(config.results))])
    return 0


def _ways(config: BenchIngestConfig) -> dict[str, Way]:
    ways = dict(PEERS)
    if config.video2dataset is not None:
        ways["video2dataset"] = partial(video2dataset, config.video2dataset)
    for preset, validate in OURS:
        if preset == "archive" or config.encode:
            ways[_name(preset, validate)] = partial(_ingest, preset, validate)
    return ways


def _in_turn(ways: dict[str, Way], videos: Path, folder: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of every run of each way; a small run before them starts Ray's workers and their sandboxes."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    warm = folder / "warm-up"
    warm.mkdir(exist_ok=True)
    for path in sorted(videos.iterdir())[:8]:
        shutil.copy(path, warm / path.name)
    with console.progress((repeats + 1) * len(ways), "bench", "runs") as shown:
        for source, times in ((warm, 1), (videos, repeats)):
            for _ in range(times):
                for name, way in ways.items():
                    gc.collect()
                    spent = way(source, folder / "out")
                    shutil.rmtree(folder / "out")
                    if source is videos:
                        seconds[name].append(spent)
                    shown.update()
    return seconds


def _name(preset: Preset, validate: Validate) -> str:
    return f"{preset}, validate {validate}"


def _ingest(preset: Preset, validate: Validate, source: Path, out: Path) -> float:
    start = time.monotonic()
    shard_mb = SHARD_BYTES // 1_000_000
    ingest(IngestConfig(input=source, out=out, preset=preset, validate=validate, shard_mb=shard_mb))
    return time.monotonic() - start
