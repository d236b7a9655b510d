"""How fast shards become clips: ClipLoader beside what else decodes the same clips on the same cores, in turn."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .. import console
from ..shards.errors import ReelmillError, UsageError
from ..shards.reader import Dataset
from .environment import RESULTS, append, capture
from .load_clips import SIZES, Form, own_forms, write_forms
from .load_long import bench_long
from .load_world import write_dataset
from .processes import cpu_seconds

PEERS_SCRIPT = Path(__file__).with_name("load_peers.py")
OURS, WORKERS, ALONE = "ClipLoader", "ClipLoader, worker processes", "ClipLoader, 1 core"
HERE = ("PyAV", "webdataset + PyAV")  # with what reelmill itself needs
ELSEWHERE = ("decord", "torchcodec exact", "torchcodec approximate")
DALI = "DALI's reader"
CORES = 2
TOLERANCE = 0.05
"""Of a clip's normalised mean between two ways: decoders round colours by up to 2 levels of 255."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchLoadConfig:
    """Time epochs of `ClipLoader` and of decord, torchcodec, PyAV, webdataset and DALI over the same shards."""

    input: Path | None = None
    """A flat folder of H.264 mp4 files; without it clips are rendered in every form."""
    peers: Path | None = None
    """Python of an environment with the other decoders: `pip install torch==2.13.0 torchcodec==0.13.0 decord av numpy`,
    and FFmpeg's libraries for torchcodec."""
    sizes: tuple[str, ...] = ("240", "720")
    """Heights of rendered clips."""
    clips: int = 96
    """Clips of one epoch at height 240, > 0; at 720 an eighth of them."""
    frames: int = 8
    """Frames per clip."""
    size: int = 224
    """Height and width of a clip, pixels."""
    global_batch: int = 8
    """Clips per batch."""
    repeats: int = 5
    """Epochs of each way, in turn, > 0; the medians count."""
    endurance: bool = False
    """Instead: memory over `batches` batches, and a resume in the middle of a dataset of `samples`."""
    batches: int = 10_000
    """With endurance, > 0."""
    samples: int = 1_000_000
    """With endurance: tiny videos of 6 kB each, >= 64."""
    results: Path = RESULTS / "load.jsonl"
    """File to which one line per way and form is appended."""

    def __post_init__(self) -> None:
        if self.clips <= 0 or self.repeats <= 0 or self.batches <= 0 or self.samples < 64:
            given = f"{self.clips}, {self.repeats}, {self.batches} and {self.samples}"
            raise UsageError(f"clips, repeats and batches must be > 0 and samples >= 64, got {given}")
        if wrong := [size for size in self.sizes if size not in SIZES]:
            raise UsageError(f"sizes must be of {', '.join(SIZES)}, got {wrong[0]!r}")


class Way:
    """A process that serves epochs; `cpu` and `wall` hold seconds per clip of every one."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name, self.cpu, self.wall = name, list[float](), list[float]()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def answer(self) -> dict[str, Any]:
        """What it prints next.

        Raises:
            ReelmillError: it ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ReelmillError(f"{self.name} must serve epochs, but ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def epoch(self, keep: bool) -> None:
        """Run one."""
        assert self._process.stdin is not None
        before = cpu_seconds(self._process.pid)
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self.answer()
        if keep:
            self.cpu.append((cpu_seconds(self._process.pid) - before) / answer["clips"])
            self.wall.append(answer["seconds"] / answer["clips"])

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def bench_load(config: BenchLoadConfig) -> int:
    """`reelmill bench load`."""
    if config.endurance:
        bench_long(config.batches, config.samples, config.results)
        return 0
    with tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch:
        folder = Path(scratch)
        if config.input is None:
            forms = write_forms(folder, config.sizes)
        else:
            forms = own_forms(folder, sorted(config.input.iterdir()))
        for place, form in enumerate(forms):
            # a shard for each of webdataset's workers, so that its first batch is everybody's
            clips = max(CORES * config.global_batch, config.clips // (8 if "720" in form.name else 1))
            dataset = write_dataset(folder / f"dataset{place}", form.videos, clips, shard_samples=-(-clips // CORES))
            _report(config, form, _timed(config, dataset), clips)
    print(f"  appended to {config.results}")
    return 0


def _timed(config: BenchLoadConfig, dataset: Path) -> tuple[list[Way], dict[str, str]]:
    """Every way with its times, and those that do not take the form, with the reason."""
    missing = {}
    with ExitStack() as opened:
        ways: list[Way] = []
        truth: list[float] | None = None
        for name, command in _commands(config, dataset).items():
            way = opened.enter_context(_serving(name, command))
            try:
                means = way.answer()["means"]
            except ReelmillError as error:
                missing[name] = str(error)
                continue
            truth = truth or means
            worst = max(abs(a - b) for a, b in zip(truth, means, strict=True))
            if worst > TOLERANCE:  # other frames get no time
                missing[name] = f"its clips differ by {worst:.3f} on average"
                continue
            ways.append(way)
        for repeat in range(config.repeats + 1):
            for way in ways:
                way.epoch(keep=repeat > 0)
    return ways, missing


@contextmanager
def _serving(name: str, command: Sequence[str]) -> Iterator[Way]:
    way = Way(name, command)
    try:
        yield way
    finally:
        way.close()


def _commands(config: BenchLoadConfig, dataset: Path) -> dict[str, list[str]]:
    opened = Dataset(dataset)
    table = opened.table(["members", "frames", "width", "height", "codec"])
    members = [members[0] for members in table.column("members").to_pylist()]
    tars = [str(opened.tar_path(shard)) for shard in range(len(opened.shard_sizes))]
    owners = [tar for tar, size in zip(tars, opened.shard_sizes, strict=True) for _ in range(size)]
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    setup: dict[str, Any] = {
        "videos": [[tar, m["offset"], m["size"]] for tar, m in zip(owners, members, strict=True)],
        "tars": tars,
        "dataset": str(dataset),
        "frames": config.frames,
        "size": config.size,
        "batch": config.global_batch,
        "count": table.column("frames")[0].as_py(),
        "width": table.column("width")[0].as_py(),
        "height": table.column("height")[0].as_py(),
        "ext": members[0]["ext"],
        "cores": cores,
    }
    ours = [sys.executable, "-m", f"{__package__}.load_ours"]
    commands = {
        OURS: [*ours, json.dumps(setup | {"threads": CORES, "workers": 0})],
        WORKERS: [*ours, json.dumps(setup | {"threads": 1, "workers": CORES})],
        ALONE: [*ours, json.dumps(setup | {"threads": 1, "workers": 0, "cores": cores[:1]})],
    }
    theirs = [(str(sys.executable), name) for name in HERE]
    if table.column("codec")[0].as_py() == "mjpeg":
        theirs.append((str(sys.executable), DALI))
    if config.peers is not None:
        theirs += [(str(config.peers), name) for name in ELSEWHERE]
    for python, name in theirs:
        commands[name] = [python, str(PEERS_SCRIPT), json.dumps(setup | {"way": name, "workers": CORES})]
    return commands


def _report(config: BenchLoadConfig, form: Form, timed: tuple[list[Way], dict[str, str]], clips: int) -> None:
    ways, missing = timed
    ours = ways[0]
    rows = []
    for way in ways:
        # by clip and turn by turn: whatever else the machine does falls on all ways alike
        record: dict[str, Any] = {"bench": "load", "form": form.name, "way": way.name, "clips": clips}
        record |= {"frames": config.frames, "size": config.size, "batch": config.global_batch, "cores": CORES}
        record |= {"clip_bytes": form.videos[0].stat().st_size, "nonref_share": round(form.nonref_share, 3)}
        record |= {"cpu_ms": [round(1000 * s, 3) for s in way.cpu], "wall_ms": [round(1000 * s, 3) for s in way.wall]}
        for clock in ("cpu", "wall"):
            pairs = zip(getattr(way, clock), getattr(ours, clock), strict=True)
            record[f"ours_faster_{clock}"] = round(median(its / our for its, our in pairs), 3)
        append(config.results, record | {"rendered": config.input is None} | capture())
        rate = f"{1 / median(way.wall):7.1f} clips/s  {1000 * median(way.cpu):7.2f} ms of CPU"
        ratio = f"ClipLoader x {record['ours_faster_wall']:.2f} by the clock, x {record['ours_faster_cpu']:.2f} by CPU"
        rows.append((way.name, rate if way is ours else f"{rate}  {ratio}"))
    rows += [(name, f"not timed: {reason}") for name, reason in missing.items()]
    if config.peers is None:
        rows.append((", ".join(ELSEWHERE), "not timed: give --peers PYTHON"))
    console.table(f"{form.name}: {config.frames} frames to {config.size}", rows)
