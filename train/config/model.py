"""The two encoders, and what of them learns."""

from dataclasses import dataclass, field
from typing import Literal

from .check import LOCATION_OR_NAME, check

TextLearns = Literal["all", "projection", "none"]
VideoLearns = Literal["all", "last", "none"]
VideoKind = Literal["frames", "regions", "space-time"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionsConfig:
    """How a frame becomes regions: tokens that are alike merge, block by block (token merging; ALT Eq. 1-3)."""

    merge: int = 8
    """Tokens that merge away in every block up to the second last, >= 0. 8 makes 108 regions of the 196 patches of a
    ViT-B/16; 0 leaves every patch a region."""
    proportional: Literal["auto", "always", "never"] = "auto"
    """Whether attention counts a merged token as often as the patches in it, which weights that learnt without merging
    want; auto does so where the image encoder does not learn (`model.video_learns` is none)."""
    space: Literal["second-last", "last", "values"] = "second-last"
    """How regions come into the space of texts. second-last: from the second last block, which is the paper's, by the
    last norm and projection, which it does not say. last: from the last block. values: from the last block, in which
    every token sees itself alone (MaskCLIP)."""

    def __post_init__(self) -> None:
        check(self.merge >= 0, "model.regions.merge", ">= 0", self.merge)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The two encoders."""

    name: str = field(default="reelmill-tiny", metadata=LOCATION_OR_NAME)
    """Name of an open_clip model (reelmill-tiny is ours), or the path of an open_clip config that ends in .json."""
    pretrained: str | None = field(default=None, metadata=LOCATION_OR_NAME)
    """A file of weights or a tag that open_clip knows (then it downloads); without it the weights are random."""
    video: VideoKind = "frames"
    """How the image encoder reads a video: each frame on its own; so, with the regions of each frame beside it (ALT);
    or with attention over time before its attention over space (TimeSformer, as ACE has it), which begins as nothing
    and always learns."""
    regions: RegionsConfig = field(default_factory=RegionsConfig)
    """How regions are found, where `video` is "regions"."""
    time_blocks: int = 0
    """Last blocks that attention over time comes before, where `video` is "space-time"; 0 for all."""
    max_frames: int = 32
    """Frames of a view for which attention over time has places, > 0."""
    text_learns: TextLearns = "all"
    """What of the text encoder learns. Without "all" its texts are encoded once per run: "projection" (ACE) keeps what
    goes into the last projection, "none" what comes out."""
    video_learns: VideoLearns = "all"
    """What of the image encoder learns: all of it, its last blocks with what follows them, or nothing."""
    last_blocks: int = 3
    """Blocks that learn where `video_learns` is "last", > 0."""
    text_chunk: int = 2048
    """Texts that are encoded at a time, > 0. Where a rank has more, the encoder runs twice, first without and then
    with gradients, and memory stays that of one chunk."""

    recompute: bool = False
    """Whether blocks keep only their inputs for the backward pass and run again in it: less memory, a third more time.
    Not for `video` "regions"."""
    compile: bool = False
    """Whether torch.compile makes kernels of the blocks of both encoders; on a CPU it needs a C++ compiler."""

    def __post_init__(self) -> None:
        whole = self.video != "regions" or not self.recompute
        check(whole, "model.recompute", 'False where model.video is "regions"', self.recompute)
        check(self.time_blocks >= 0, "model.time_blocks", ">= 0", self.time_blocks)
        check(self.max_frames > 0, "model.max_frames", "> 0", self.max_frames)
        check(self.last_blocks > 0, "model.last_blocks", "> 0", self.last_blocks)
        check(self.text_chunk > 0, "model.text_chunk", "> 0", self.text_chunk)
