"""The options of every job: frozen, checked once, and the source of the command-line flags and their help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..shards.errors import UsageError

Preset = Literal["archive", "train-cpu"]
Dedup = Literal["none", "exact", "stream"]
Validate = Literal["none", "packets", "decode"]


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """Shard raw videos (and, with --bank, a description bank) into a dataset of WebDataset tars."""

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")]
    """A folder (one subfolder per label, or flat), or a csv, tsv, jsonl or parquet manifest with a `path` column and
    optional id, label, caption, split, start_seconds, end_seconds; further columns are kept in the sample's json."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The dataset folder to make; it must be new, empty, or hold this same ingest unfinished."""
    preset: Preset = "archive"
    """archive keeps the stream as it is; train-cpu writes all-intra MJPEG for cheap random frames without a GPU."""
    shard_mb: int = 256
    """Size of one shard by the plan's estimate, MB (10^6 bytes), > 0."""
    short_side: int = 256
    """train-cpu: short side of the written frames, pixels, even; smaller videos are not enlarged."""
    dedup: Dedup = "exact"
    """exact drops files of the same bytes, stream also the same compressed video in another container."""
    validate: Validate = "decode"
    """How much of a video must hold: nothing beyond its header, every packet, or every frame decoded."""
    bank: Path | None = None
    """A description bank: goes into the dataset as tars, and every label must be one of its actions."""
    max_failed_fraction: float = 1.0
    """More failed inputs than this share of all make the job end with exit code 1; in [0, 1]."""
    video_cpu_seconds: int = 3600
    """CPU time that one video may take before it is given up, seconds, > 0."""
    video_memory_mb: int = 4096
    """Address space that one video's decoder may take, MB, > 0."""
    workers: int = 0
    """Ray tasks at a time; 0 for one per CPU of the cluster."""
    address: str | None = None
    """An existing Ray cluster ("auto" or host:port); without one a local Ray is started for the job."""
    resume: bool = True
    """Go on with an unfinished ingest of the same plan; --no-resume starts over."""

    def __post_init__(self) -> None:
        _check("shard_mb", self.shard_mb > 0, "> 0", self.shard_mb)
        _check("short_side", self.short_side >= 16 and self.short_side % 2 == 0, "even and >= 16", self.short_side)
        _check("max_failed_fraction", 0 <= self.max_failed_fraction <= 1, "in [0, 1]", self.max_failed_fraction)
        _check("video_cpu_seconds", self.video_cpu_seconds > 0, "> 0", self.video_cpu_seconds)
        _check("video_memory_mb", self.video_memory_mb >= 512, ">= 512", self.video_memory_mb)
        _check("workers", self.workers >= 0, ">= 0", self.workers)

    def hashed(self) -> dict[str, object]:
        """What the bytes of the dataset depend on; workers, address, resume and the folders are not part of it."""
        names = ("preset", "shard_mb", "dedup", "validate", "video_cpu_seconds", "video_memory_mb")
        form = {"short_side": self.short_side} if self.preset != "archive" else {}
        return {name: getattr(self, name) for name in names} | form


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyConfig:
    """Check a dataset, every byte; faults are named by file, key and offset."""

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """The dataset folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorConfig:
    """Say what this machine has: GPU, DALI, codecs, Triton, Ray; what is missing and how to get it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BankBuildConfig:
    """Build a description bank from records of (action, text, source)."""

    records: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECORDS")]
    """csv, tsv, jsonl or parquet with columns `action`, `text` and optional `source`."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The bank folder to make; it must be new or empty."""
    labels: Path | None = None
    """One action name per line: the actions of the bank. Records of other actions are set aside in rejected.jsonl.
    Without it the records define the actions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderConfig:
    """How a dataset becomes batches of clips."""

    global_batch: int
    """Videos per step over all ranks, > 0, a multiple of the world size."""
    frames: int = 8
    """Frames per view, > 0."""
    size: int = 224
    """Height and width of a frame, pixels, > 0."""
    seed: int = 0
    """Names the order, the frames and the crops; any int."""
    training: bool = True
    """True: shuffled, random frames and crops, tail dropped. False: in dataset order, centred, tail padded with
    `valid_B` False."""
    clips: int = 1
    """Evaluation: temporal views per video; view k of n samples every segment at offset (k + .5) / n."""
    crops: int = 1
    """Evaluation: spatial views per clip, 1 (centre, 224/256 of the short side) or 3 (squares along the long side)."""
    split: str | None = None
    """Keep only samples of this split."""
    classes: tuple[str, ...] | None = None
    """Keep only samples with one of these labels; a label's index is its place here (default: the class map)."""
    min_crop_area: float = 0.5
    """Training: smallest area of a random crop, as a share of the frame, in (0, 1]."""
    flip: float = 0.5
    """Training: chance of a left-right flip, in [0, 1]; 0 where left and right carry meaning."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Subtracted per channel, in [0, 1]; CLIP's by default."""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """Divides per channel, in [0, 1]; CLIP's by default."""
    threads: int = 2
    """Decoding threads of this rank, > 0."""
    prefetch: int = 2
    """Batches made ahead, > 0."""
    window_shards: int | None = None
    """Shards that are shuffled together; None shuffles all of them together."""
    quarantine: Path | None = None
    """File to which a line is appended for every sample that did not decode."""

    def __post_init__(self) -> None:
        for name in ("global_batch", "frames", "size", "clips", "threads", "prefetch"):
            _check(name, getattr(self, name) > 0, "> 0", getattr(self, name))
        _check("crops", self.crops in (1, 3), "1 or 3", self.crops)
        _check("views", not self.training or self.clips * self.crops == 1, "1 in training", self.clips * self.crops)
        _check("min_crop_area", 0 < self.min_crop_area <= 1, "in (0, 1]", self.min_crop_area)
        _check("flip", 0 <= self.flip <= 1, "in [0, 1]", self.flip)
        _check("window_shards", self.window_shards is None or self.window_shards > 0, "> 0", self.window_shards)


def _check(name: str, holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise UsageError(f"{name} must be {rule}, got {value}")
