"""The options that decide what the clips of a video are, and in which form they are written."""

from dataclasses import dataclass
from typing import Literal

from ..shards.errors import UsageError

Preset = Literal["archive", "train-cpu", "train-gpu"]
Audio = Literal["keep", "drop"]
Encoder = Literal["software", "nvenc"]

SHORT_SIDE = 256
GOP_FRAMES = 8
SCENE_THRESHOLD = 3.0
FASTEST_FPS = 240


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipConfig:
    """How a video becomes clips; part of `IngestConfig`."""

    preset: Preset = "archive"
    """archive keeps the compressed video as it is; train-cpu writes all-intra MJPEG for cheap random frames without a
    GPU; train-gpu writes H.264 with short closed groups of pictures for hardware decoders."""
    clip_seconds: float | None = None
    """Cut every video (or listed span) into clips of this length; the rest at its end is a clip too."""
    scenes: bool = False
    """Cut every video (or listed span) where one scene changes to the next at once; needs --validate decode."""
    scene_threshold: float = SCENE_THRESHOLD
    """With scenes: how many times as large as the changes around it a cut is, > 1; 2 finds more, 4 is surer."""
    min_clip_seconds: float = 0.0
    """Leave shorter clips out."""
    max_clip_seconds: float | None = None
    """Cut longer scenes, listed spans and videos into equal clips of at most this length."""
    short_side: int = SHORT_SIDE
    """train-*: short side of the written frames, pixels, even; smaller videos are not enlarged."""
    fps: float | None = None
    """train-*: constant frames per second of what is written; without it each video's own average."""
    gop_frames: int = GOP_FRAMES
    """train-gpu: frames from one keyframe to the next, > 0."""
    encoder: Encoder = "software"
    """train-gpu: software gives the same bytes everywhere; nvenc is faster and does not: the dataset says so. nvenc
    needs an NVIDIA GPU with an encoder (A100, H100 and H200 have none) and --video-memory-mb for CUDA's addresses."""
    audio: Audio | None = None
    """The first sound track, always without re-encoding. Without this flag archive keeps it and train-* drop it."""

    def __post_init__(self) -> None:
        self._check_cuts()
        self._check_form()

    def _check_cuts(self) -> None:
        longest, least = self.max_clip_seconds, self.min_clip_seconds
        check("clip_seconds", self.clip_seconds is None or self.clip_seconds > 0, "> 0", self.clip_seconds)
        check("min_clip_seconds", least >= 0, ">= 0", least)
        check("max_clip_seconds", longest is None or longest > 0, "> 0", longest)
        check("scene_threshold", self.scene_threshold > 1, "> 1", self.scene_threshold)
        for name, length in (("clip_seconds", self.clip_seconds), ("max_clip_seconds", longest)):
            check("min_clip_seconds", length is None or least <= length, f"at most {name} ({length})", least)
        if self.clip_seconds is not None and self.scenes:
            raise UsageError(
                f"scenes must go without clip_seconds, got {self.clip_seconds}; max_clip_seconds cuts long scenes"
            )
        if self.clip_seconds is not None and longest is not None:
            raise UsageError(f"max_clip_seconds must go without clip_seconds, got {longest} and {self.clip_seconds}")
        if self.scene_threshold != SCENE_THRESHOLD and not self.scenes:
            raise UsageError(f"scene_threshold must go with scenes, got {self.scene_threshold} without")

    def _check_form(self) -> None:
        check("short_side", self.short_side >= 16 and self.short_side % 2 == 0, "even and >= 16", self.short_side)
        right = self.fps is None or 0 < self.fps <= FASTEST_FPS
        check("fps", right, f"> 0 and at most {FASTEST_FPS}", self.fps)
        check("gop_frames", self.gop_frames > 0, "> 0", self.gop_frames)
        given = {
            "short_side": (self.short_side != SHORT_SIDE, "a preset that encodes", ("train-cpu", "train-gpu")),
            "fps": (self.fps is not None, "a preset that encodes", ("train-cpu", "train-gpu")),
            "gop_frames": (self.gop_frames != GOP_FRAMES, "preset train-gpu", ("train-gpu",)),
            "encoder": (self.encoder != "software", "preset train-gpu", ("train-gpu",)),
        }
        for name, (is_given, wanted, presets) in given.items():
            if is_given and self.preset not in presets:
                raise UsageError(f"{name} must go with {wanted}, got {getattr(self, name)} with {self.preset}")

    @property
    def keeps_audio(self) -> bool:
        """Whether the sound track is written."""
        return self.audio == "keep" or (self.audio is None and self.preset == "archive")

    def cuts(self) -> dict[str, object]:
        """What the spans of clips depend on, besides the facts."""
        cuts: dict[str, object] = {"clip_seconds": self.clip_seconds, "min_clip_seconds": self.min_clip_seconds}
        return cuts if self.max_clip_seconds is None else cuts | {"max_clip_seconds": self.max_clip_seconds}

    def looks(self) -> dict[str, object]:
        """What the facts of a video depend on for the sake of its clips."""
        return {"scenes": True, "scene_threshold": self.scene_threshold} if self.scenes else {}

    def form(self) -> dict[str, object]:
        """What every generation of a dataset must have in common."""
        form: dict[str, object] = {"preset": self.preset, "audio": self.audio}
        if self.preset != "archive":
            form |= {"short_side": self.short_side, "fps": self.fps}
        if self.preset == "train-gpu":
            form |= {"gop_frames": self.gop_frames, "encoder": self.encoder, "reproducible": self.encoder == "software"}
        return form


def check(name: str, holds: bool, rule: str, value: object) -> None:
    """One rule for one option.

    Raises:
        UsageError: it does not hold.
    """
    if not holds:
        raise UsageError(f"{name} must be {rule}, got {value}")
