"""The two encoders, and what of them learns."""

from dataclasses import dataclass, field
from typing import Literal

from .check import LOCATION_OR_NAME, check

TextLearns = Literal["all", "projection", "none"]
VideoLearns = Literal["all", "last", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The two encoders."""

    name: str = field(default="reelmill-tiny", metadata=LOCATION_OR_NAME)
    """Name of an open_clip model (reelmill-tiny is ours), or the path of an open_clip config that ends in .json."""
    pretrained: str | None = field(default=None, metadata=LOCATION_OR_NAME)
    """A file of weights or a tag that open_clip knows (then it downloads); without it the weights are random."""
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

    def __post_init__(self) -> None:
        check(self.last_blocks > 0, "model.last_blocks", "> 0", self.last_blocks)
        check(self.text_chunk > 0, "model.text_chunk", "> 0", self.text_chunk)
