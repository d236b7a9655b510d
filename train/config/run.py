"""What a training run is asked to do."""

from dataclasses import dataclass, field
from pathlib import Path

from .ace import AceConfig
from .alt import AltConfig
from .ap_clip import ApClipConfig
from .check import LOCATION, Device, Precision, check
from .coco import CocoConfig
from .data import ClassesConfig, DataConfig
from .model import ModelConfig
from .optimizer import OptimizerConfig
from .storyboard import StoryboardConfig

MethodConfig = ApClipConfig | AceConfig | AltConfig | CocoConfig | StoryboardConfig
"""In a TOML file the table's `name` says which; AP-CLIP where it has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run: a method over one dataset."""

    dataset: str = field(metadata=LOCATION)
    """The dataset's folder."""
    out: Path = field(metadata=LOCATION)
    """The run's folder: config.json, metrics.jsonl, tensorboard/, checkpoints/, quarantine.jsonl."""
    bank: str | None = field(default=None, metadata=LOCATION)
    """Folder of the description bank; without it the dataset's own."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The two encoders."""
    method: MethodConfig = field(default_factory=ApClipConfig)
    """What is learnt from videos and texts. Without a file `--method.name` says which, and brings its flags."""
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    """What is base and what is novel."""
    data: DataConfig = field(default_factory=DataConfig)
    """How clips are taken."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How the weights are moved."""
    epochs: int = 10
    """Passes over the training split, > 0; not read where `steps` is given."""
    steps: int | None = None
    """Optimiser steps of the whole run, > 0."""
    global_batch: int = 64
    """Clips per optimiser step, > 0."""
    accumulate: int = 1
    """Batches that each rank makes of its clips of a step, one after another, > 0: less memory, the same gradients."""
    seed: int = 0
    """Of the initial weights, the order of samples, the augmentation and the draw of descriptions."""
    precision: Precision = "fp32"
    """Arithmetic of the encoders; weights, embeddings' norms, scores and loss stay fp32."""
    device: Device = "auto"
    """auto takes a GPU where there is one."""
    threads: int = 0
    """CPU threads of torch; 0 leaves torch's own choice."""
    log_every: int = 10
    """Steps between two rows of metrics.jsonl, > 0."""
    eval_every: int = 0
    """Steps between two evaluations on the base classes during training; 0 for none."""
    checkpoint_every: int = 200
    """Steps between two checkpoints, > 0; the last step always makes one."""
    keep_checkpoints: int = 2
    """Newest checkpoints that are kept, > 0."""
    profile: int = 0
    """Steps to trace with torch's profiler, after the first three of this process; 0 for none. The trace goes into the
    run's folder as trace-RANK.json, for chrome://tracing or Perfetto."""
    resume: bool = True
    """Go on with an unfinished run of the same config in `out`, exactly; --no-resume starts over."""

    def __post_init__(self) -> None:
        for name in ("epochs", "global_batch", "accumulate", "log_every", "checkpoint_every", "keep_checkpoints"):
            check(getattr(self, name) > 0, name, "> 0", getattr(self, name))
        check(self.steps is None or self.steps > 0, "steps", "> 0", self.steps)
        enough = self.model.video != "space-time" or self.data.frames <= self.model.max_frames
        check(enough, "model.max_frames", f">= data.frames, which is {self.data.frames}", self.model.max_frames)
        several = self.method.name == "storyboard" or not self.data.multi_label
        check(several, "data.multi_label", "False for a method that learns one label", self.data.multi_label)
        for name in ("seed", "threads", "eval_every", "profile"):
            check(getattr(self, name) >= 0, name, ">= 0", getattr(self, name))


NOT_PART_OF_A_RUN = frozenset(
    {"out", "device", "threads", "log_every", "eval_every", "checkpoint_every", "keep_checkpoints", "profile", "resume"}
)
"""Fields of TrainConfig that may change when a run is resumed: they do not change what is learnt."""
