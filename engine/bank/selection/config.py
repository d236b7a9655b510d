"""The options of `bank select`."""

from dataclasses import dataclass
from pathlib import Path

from ...clip_config import check
from ..config import JobConfig


@dataclass(frozen=True, kw_only=True)
class SelectConfig(JobConfig):
    """Score every description by its relevance to its action, and keep the best ones of each in a new bank."""

    top_k: int = 100
    """Descriptions that an action keeps at most, > 0."""
    vectors: Path | None = None
    """Compare mean word vectors: a file of them (word2vec as text or binary, GloVe's text, or one of these as .gz)."""
    model: str | None = None
    """Compare what the text tower of this open_clip model makes of description and name (ViT-B-16); with --weights. A
    text is cut after the 75 tokens that a tower reads."""
    weights: Path | None = None
    """With --model: the file of its weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check("top_k", self.top_k > 0, "> 0", self.top_k)
        got = "both" if self.vectors is not None and self.model is not None else "neither"
        check("relevance", (self.vectors is None) != (self.model is None), "by --vectors or by --model", got)
        together = (self.model is None) == (self.weights is None)
        check("weights", together, "given exactly with --model", self.weights)
