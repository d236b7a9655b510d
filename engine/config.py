"""The options of every job: frozen, checked once, and the source of the command-line flags and their help."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..shards.errors import UsageError
from ..shards.features.schema import check_name
from .clip_config import FASTEST_FPS, ClipConfig
from .clip_config import Preset as Preset
from .clip_config import check as _check
from .dedup.config import DedupConfig
from .sources import Layout

Dedup = Literal["none", "exact", "stream", "perceptual"]
Validate = Literal["none", "packets", "decode"]


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig(ClipConfig):
    """Shard raw videos (and, with --bank, a description bank) into a dataset of WebDataset tars."""

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")]
    """A folder (one subfolder per label, or flat); a csv, tsv, jsonl or parquet manifest with a `path` or `url` column
    and optional id, label, caption, split, start_seconds, end_seconds (further columns are kept in the sample's json);
    WebDataset tars; or a published dataset's own lists, see --layout."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The dataset folder: new, empty, or holding this same ingest unfinished; or a dataset: then what is new or changed
    in INPUT becomes a new generation of it."""
    layout: Layout = "auto"
    """The form of INPUT. auto tells folders, manifests and tars apart; lists of published datasets are named."""
    videos: Path | None = None
    """Folder of the videos that a list names; without it the list's own."""
    split: str | None = None
    """Take this split of INPUT alone."""
    label_map: Path | None = None
    """File that names the class ids of a list."""
    fold: int = 1
    """Number of the official split (ucf101, hmdb51), >= 1."""
    list_fps: float | None = None
    """Frames per second of the frame numbers in a list (segments)."""
    pattern: str | None = None
    """Where a listed `{video}` lies below --videos (segments)."""
    whole_videos: bool = False
    """Charades, activitynet, segments: one sample per video with all its labels, not one per stretch."""
    frames_fps: float | None = None
    """Folders of numbered JPEGs (img_00001.jpg …) are videos too, of so many frames per second, > 0. Their files become
    an all-intra MJPEG video as they are; a preset that encodes does so only where they are not in its form. Lines of a
    list (--layout list) are then mmaction2's rawframes: folder, number of frames, classes."""
    shard_mb: int = 256
    """Size of one shard by the plan's estimate, MB (10^6 bytes), > 0."""
    dedup: Dedup = "exact"
    """exact drops files of the same bytes, stream also the same compressed video in another container, perceptual also
    the same pictures scaled, encoded, timed or trimmed otherwise."""
    near: DedupConfig = field(default_factory=DedupConfig)
    """With dedup perceptual: what counts as the same."""
    validate: Validate = "decode"
    """How much of a video must hold: nothing beyond its header, every packet, or every frame decoded."""
    bank: Path | None = None
    """A description bank: goes into the dataset as tars, and every label must be one of its actions."""
    max_failed_fraction: float = 1.0
    """More failed inputs than this share of all make the job end with exit code 1; in [0, 1]."""
    video_cpu_seconds: int = 3600
    """CPU time that one video may take before it is given up, seconds, > 0."""
    video_memory_mb: int = 4096
    """Address space that one video's decoder may take, MB, >= 512."""
    max_video_mb: int = 16_384
    """Size of one input file, MB, > 0; a larger one is a failed input."""
    workers: int = 0
    """Ray tasks at a time; 0 for one per CPU of the cluster."""
    address: str | None = None
    """An existing Ray cluster ("auto" or host:port); without one a local Ray is started for the job."""
    memory_mb: int = 0
    """What the tasks of a local Ray may take together, MB; 0 leaves it to Ray (most of the machine)."""
    task_seconds: float = 900.0
    """After this long without an end a task is sent to another worker, with twice the time; > 0."""
    resume: bool = True
    """Go on with an unfinished ingest of the same input; --no-resume starts over."""
    append: bool = False
    """OUT is a dataset already: inputs that INPUT does not name stay. Without it they are removed (tombstones)."""
    checksum: bool = False
    """OUT is a dataset already: tell changed inputs by their bytes instead of by size and time."""

    def __post_init__(self) -> None:
        ClipConfig.__post_init__(self)  # super() does not see through slots
        right = self.frames_fps is None or 0 < self.frames_fps <= FASTEST_FPS
        _check("frames_fps", right, f"> 0 and at most {FASTEST_FPS}", self.frames_fps)
        _check("shard_mb", self.shard_mb > 0, "> 0", self.shard_mb)
        _check("max_failed_fraction", 0 <= self.max_failed_fraction <= 1, "in [0, 1]", self.max_failed_fraction)
        _check("video_cpu_seconds", self.video_cpu_seconds > 0, "> 0", self.video_cpu_seconds)
        _check("video_memory_mb", self.video_memory_mb >= 512, ">= 512", self.video_memory_mb)
        _check("max_video_mb", self.max_video_mb > 0, "> 0", self.max_video_mb)
        _check("task_seconds", self.task_seconds > 0, "> 0", self.task_seconds)
        if self.near != DedupConfig() and self.dedup != "perceptual":
            raise UsageError(f"near must go with dedup perceptual, got {self.dedup}")
        least = {"stream": ("packets", "decode"), "perceptual": ("decode",)}.get(self.dedup)
        if least is not None and self.validate not in least:
            raise UsageError(f"dedup {self.dedup} must go with validate {' or '.join(least)}, got {self.validate}")
        if self.scenes and self.validate != "decode":
            raise UsageError(f"scenes must go with validate decode, got {self.validate}")
        for name in ("workers", "memory_mb"):
            _check(name, getattr(self, name) >= 0, ">= 0", getattr(self, name))

    def hashed(self) -> dict[str, object]:
        """What the bytes of the dataset depend on; workers, address, resume and the folders are not part of it."""
        near = {"near": asdict(self.near)} if self.dedup == "perceptual" else {}
        frames = {} if self.frames_fps is None else {"frames_fps": self.frames_fps}
        own = {"shard_mb": self.shard_mb, "dedup": self.dedup} | near | frames
        return own | self.cuts() | self.probed() | self.form()

    @classmethod
    def from_record(cls, record: Mapping[str, Any], *, input: Path, out: Path) -> "IngestConfig":
        """The options that a generation was made with."""
        known = {name: value for name, value in record.items() if name in cls.__dataclass_fields__}
        if "near" in known:
            known["near"] = DedupConfig(**known["near"])
        return cls(input=input, out=out, **known)

    def probed(self) -> dict[str, object]:
        """What the facts of a video depend on."""
        names = ("validate", "video_cpu_seconds", "video_memory_mb", "max_video_mb")
        return (
            {name: getattr(self, name) for name in names} | {"fingerprint": self.dedup == "perceptual"} | self.looks()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanConfig(IngestConfig):
    """Probe INPUT and say what an ingest would write; writes nothing."""

    out: tyro.conf.Suppress[Path] = Path()
    max_failed_fraction: tyro.conf.Suppress[float] = 1.0
    resume: tyro.conf.Suppress[bool] = True
    append: tyro.conf.Suppress[bool] = False
    checksum: tyro.conf.Suppress[bool] = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryConfig:
    """Try the failed inputs of a dataset again, alone; what succeeds becomes a new generation."""

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """The dataset folder."""
    workers: int = 0
    """Ray tasks at a time; 0 for one per CPU of the cluster."""
    address: str | None = None
    """An existing Ray cluster ("auto" or host:port); without one a local Ray is started for the job."""

    def __post_init__(self) -> None:
        _check("workers", self.workers >= 0, ">= 0", self.workers)


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactConfig:
    """Fold the generations of a dataset into one: live samples are copied into new tars, the old ones go."""

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """The dataset folder."""
    workers: int = 0
    """Ray tasks at a time; 0 for one per CPU of the cluster."""
    address: str | None = None
    """An existing Ray cluster ("auto" or host:port); without one a local Ray is started for the job."""
    task_seconds: float = 900.0
    """After this long without an end a task is sent to another worker, with twice the time; > 0."""

    def __post_init__(self) -> None:
        _check("workers", self.workers >= 0, ">= 0", self.workers)
        _check("task_seconds", self.task_seconds > 0, "> 0", self.task_seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptConfig:
    """Take existing WebDataset tars as a dataset: index, tables and manifest are made, no video is copied."""

    tars: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARS")]
    """A folder of tars, a tar, or a brace pattern of tars (`shards/{000..999}.tar`)."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The dataset folder to make; new or empty. The tars are linked into it."""
    label_map: Path | None = None
    """File that names class ids in `.cls` members."""
    validate: Validate = "packets"
    """How much of a video must hold: nothing beyond its header, every packet, or every frame decoded."""
    video_cpu_seconds: int = 3600
    """CPU time that one video may take before it is given up, seconds, > 0."""
    video_memory_mb: int = 4096
    """Address space that one video's decoder may take, MB, >= 512."""
    max_video_mb: int = 16_384
    """Size of one video, MB, > 0; a larger one is a failed input."""
    workers: int = 0
    """Ray tasks at a time; 0 for one per CPU of the cluster."""
    address: str | None = None
    """An existing Ray cluster ("auto" or host:port); without one a local Ray is started for the job."""
    task_seconds: float = 3600.0
    """After this long without an end a tar is given to another worker, with twice the time; > 0."""

    def __post_init__(self) -> None:
        _check("video_cpu_seconds", self.video_cpu_seconds > 0, "> 0", self.video_cpu_seconds)
        _check("video_memory_mb", self.video_memory_mb >= 512, ">= 512", self.video_memory_mb)
        _check("max_video_mb", self.max_video_mb > 0, "> 0", self.max_video_mb)
        _check("workers", self.workers >= 0, ">= 0", self.workers)
        _check("task_seconds", self.task_seconds > 0, "> 0", self.task_seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeaturesConfig:
    """Put features that were computed elsewhere beside the shards of a dataset, under the keys of its samples."""

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """The dataset folder."""
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILES")]
    """A folder of .npy, .npz and .safetensors files, or WebDataset tars with such members. Each is named like a key, or
    like an input: whole id, id without extension, or the last part of that."""
    name: str
    """What the set is called: LoaderConfig(features=NAME) loads it."""
    tensor: str = "frames"
    """Name of the tensor in files that have none for it (.npy). Along frames (T, D) and regions (T, N, D) runs time."""
    description: str = ""
    """What the features are, for people."""
    versions: tuple[str, ...] = ()
    """What made them, as NAME=VERSION: open_clip=3.3.0 weights=laion2b_s34b_b88k."""

    def __post_init__(self) -> None:
        check_name(self.name)
        for each in self.versions:
            _check("versions", "=" in each, "NAME=VERSION", each)

    def made_with(self) -> list[tuple[str, str]]:
        """`versions` in pairs."""
        return [(name, version) for name, _, version in (each.partition("=") for each in self.versions)]


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyConfig:
    """Check a dataset, every byte; faults are named by file, key and offset."""

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """The dataset folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorConfig:
    """Say what this machine has: GPU, DALI, codecs, Triton, Ray; what is missing and how to get it."""
