"""The options of a loader."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ...shards.errors import UsageError
from ..clip_config import check
from .frames import Sampling, Short

POSITIVE: tuple[str, ...] = ("global_batch", "frames", "size", "stride", "seconds_apart", "clips", "descriptions")
POSITIVE += ("threads", "prefetch", "sample_seconds", "cache_gb")

Head = Literal["auto", "pyav", "nvdec", "dali-cpu"]
DType = Literal["float32", "float16", "bfloat16", "uint8"]
FeatureFrames = Literal["sampled", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderConfig:
    """How datasets become batches of clips."""

    global_batch: int
    """Videos per step over all ranks, > 0, a multiple of the world size."""
    frames: int = 8
    """Frames per view, > 0."""
    size: int = 224
    """Height and width of a frame, pixels, > 0."""
    sampling: Sampling = "segments"
    """Which frames: one of each of equal segments of the video (random in training, else at the view's offset), a dense
    clip `stride` apart, every frame from the start, or frames `seconds_apart`."""
    stride: int = 2
    """Dense sampling: frames from one to the next, > 0."""
    seconds_apart: float = 0.5
    """Sampling by seconds: time from one frame to the next, > 0."""
    short: Short = "last"
    """What follows the end of a video that is shorter than a dense clip: its last frame, or the video again."""
    seed: int = 0
    """Names the order, the frames and the crops; any int."""
    training: bool = True
    """True: shuffled, random frames and crops, tail dropped. False: in dataset order, centred, tail padded with
    `valid_B` False."""
    clips: int = 1
    """Evaluation: temporal views per video; view k of n samples every segment at offset (k + .5) / n."""
    crops: int = 1
    """Evaluation: spatial views per clip, 1 (centre, 224/256 of the short side) or 3 (squares along the long side)."""
    weights: tuple[float, ...] | None = None
    """Training from several datasets: the share of each, > 0; None takes each as often as it has samples."""
    split: str | None = None
    """Keep only samples of this split."""
    classes: tuple[str, ...] | None = None
    """Keep only samples with one of these labels; a label's index is its place here (default: the class map)."""
    multi_label: bool = False
    """Whether batches carry `targets_BC`, every label of a sample, beside the first one's index."""
    bank: Path | None = None
    """Bank of descriptions, or a dataset that carries one; batches then have `texts`."""
    descriptions: int = 1
    """Descriptions of a sample's action that are drawn from the bank for it, > 0."""
    features: str | None = None
    """Name of the datasets' feature set (`reelmill features`); or the ending of members in their tars, with its dot:
    ".npy" takes `<key>.npy` as `frames` and `<key>.words.npy` as `words`. Batches then have `features`."""
    feature_frames: FeatureFrames = "sampled"
    """Of features along the video (`frames`, `regions`): the rows of each view's frames, or all, with a mask."""
    video: bool = True
    """False loads features alone: no byte of a video is read, and the clips have no frames."""
    min_crop_area: float = 0.5
    """Training: smallest area of a random crop, as a share of the frame, in (0, 1]."""
    flip: float = 0.5
    """Training: chance of a left-right flip, in [0, 1]; 0 where left and right carry meaning."""
    colour_jitter: float = 0.0
    """Training: chance that brightness, contrast, saturation and hue of a clip change, in [0, 1]."""
    jitter_strength: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    """By at most this: shares of the first three, in [0, 1]; of the colour circle, in [0, 0.5]."""
    grey: float = 0.0
    """Training: chance that a clip is grey, in [0, 1]."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Subtracted per channel, in [0, 1]; CLIP's by default."""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """Divides per channel, in [0, 1]; CLIP's by default."""
    head: Head = "auto"
    """What decodes: "pyav" any codec on the CPU (all-intra MJPEG by its packets alone, called "jpeg"); "nvdec" the
    GPU's decoders; "dali-cpu" DALI's own CPU decoder (VP8, VP9, MJPEG), which shows the whole DALI graph without a GPU.
    "auto" takes nvdec where there is a `device_id` and it knows the codec, else pyav. What a head cannot take goes to
    pyav; the log says so once."""
    device_id: int | None = None
    """GPU that makes and holds the clips; None makes them on the CPU."""
    dtype: DType = "float32"
    """Of the clips; uint8 leaves the levels as they are, without mean and std."""
    threads: int = 2
    """Decoding threads of this rank, > 0."""
    workers: int = 0
    """Processes that decode, within limits on time and memory, >= 0; 0 decodes in the threads of this process. Take
    some where nobody vouches for the videos: a decoder that crashes or hangs then costs no more than its process."""
    sample_seconds: float = 60.0
    """What one sample may take in such a process, > 0, of CPU time and by the clock."""
    prefetch: int = 2
    """Batches made ahead, > 0."""
    window_shards: int | None = None
    """Shards that are shuffled together; None shuffles all of them together. Needed where a dataset is behind a URL:
    the shards of two windows lie in the cache at a time."""
    cache: Path | None = None
    """Folder for the shards of remote datasets, and for the tables of large ones; ~/.cache/reelmill by default."""
    cache_gb: float = 100.0
    """What that folder may hold, GB, > 0; every process of the machine that names the folder shares it."""
    quarantine: Path | None = None
    """File to which a line is appended for every sample that did not decode."""
    max_bad_fraction: float = 0.1
    """Once more than this share of the samples that this rank has read did not decode, the loader stops; in [0, 1]. It
    is a share of at least a thousand samples (of an epoch, if that is shorter, but of a hundred at least), so that the
    first bad ones do not count for much."""

    def __post_init__(self) -> None:
        for name in POSITIVE:
            check(name, getattr(self, name) > 0, "> 0", getattr(self, name))
        for name in ("flip", "max_bad_fraction", "colour_jitter", "grey"):
            check(name, 0 <= getattr(self, name) <= 1, "in [0, 1]", getattr(self, name))
        check("seed", type(self.seed) is int, "an int", self.seed)
        check("workers", self.workers >= 0, ">= 0", self.workers)
        check("head", self.head in get_args(Head), f"one of {', '.join(get_args(Head))}", self.head)
        check("dtype", self.dtype in get_args(DType), f"one of {', '.join(get_args(DType))}", self.dtype)
        check("head", self.head != "nvdec" or self.device_id is not None, "used with a device_id", self.head)
        check("head", self.head != "dali-cpu" or self.device_id is None, "used without a device_id", self.head)
        allowed = get_args(FeatureFrames)
        check("feature_frames", self.feature_frames in allowed, f"one of {', '.join(allowed)}", self.feature_frames)
        check("video", self.video or self.features is not None, "True without features", self.video)
        check("crops", self.crops in (1, 3), "1 or 3", self.crops)
        check("views", not self.training or self.clips * self.crops == 1, "1 in training", self.clips * self.crops)
        check("min_crop_area", 0 < self.min_crop_area <= 1, "in (0, 1]", self.min_crop_area)
        *shares, turn = self.jitter_strength
        fits = all(0 <= share <= 1 for share in shares) and 0 <= turn <= 0.5
        check("jitter_strength", fits, "three numbers in [0, 1] and one in [0, 0.5]", self.jitter_strength)
        check("window_shards", self.window_shards is None or self.window_shards > 0, "> 0", self.window_shards)
        if self.weights is not None and not self.training:
            raise UsageError(f"weights mix datasets in training; evaluation reads each sample once, got {self.weights}")

    @property
    def cache_folder(self) -> Path:
        """Where the cache lies on this machine."""
        root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return self.cache or Path(root).expanduser() / "reelmill"
