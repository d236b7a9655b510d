"""The options of CoCo, the method of ActionHub."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from .check import check

CaptionChoice = Literal["relevant", "drawn"]
ClassDescription = Literal["definitions", "captions", "both"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CimConfig:
    """Cross-action invariance: the texts of seen classes rebuilt through those of unseen ones and back (Eq. 11-14)."""

    unseen_texts: tuple[str, ...] = ()
    """Classes whose texts, but no videos, TRAINING READS: results are then transductive in text, and are to be reported
    as such. Empty leaves the cycle out."""
    weight: float = 0.1
    """Of the loss (gamma), > 0."""
    normalize: bool = True
    """Bring what was rebuilt back to length 1, before the second softmax and before the loss; Eq. 11-14 as printed do
    not."""

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.unseen_texts).items() if count > 1]
        check(not twice, "method.cim.unseen_texts", "free of repeated classes", twice[:5])
        check(0 < self.weight < float("inf"), "method.cim.weight", "> 0 and finite", self.weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoConfig:
    """CoCo: one layer over the features of videos and one over those of texts, which are definitions and captions of a
    class. The paper freezes the encoders below: `model.video_learns` and `model.text_learns` "none".
    """

    name: Literal["coco"] = "coco"
    """The method."""
    width: int = 512
    """Of the space in which videos and texts meet (d), > 0."""
    describe_by: ClassDescription = "both"
    """What a class is described by: AD-only, VC-only or AD + VC of Table 4."""
    definition: str = "{action}: {definition}"
    """How a definition is told; {action} is the class name."""
    definition_source: str = ""
    """Source in definitions.parquet to take; empty takes the first definition of a class, whatever its source."""
    captions: int = 100
    """Captions per class (k), > 0; all of them where there are fewer."""
    choose: CaptionChoice = "relevant"
    """The captions of highest relevance, which `reelmill bank select` finds; or a draw by the run's seed."""
    alpha: float = 0.5
    """Share of the definition in the text of a class, in [0, 1] (Eq. 10 and 17)."""
    tau: float = 0.1
    """Temperature, > 0; it does not learn."""
    cosine: bool = True
    """Compare by cosine, as ER does on which CoCo is built; Eq. 4 and 8 print the bare product."""
    normalize_captions: bool = True
    """Bring each caption to length 1 before the mean of Eq. 6. Without it the layer is applied once to the mean of the
    captions, which is the same and k times less work."""
    share_text_layer: bool = True
    """One layer for definitions and captions."""
    text_dropout: float = 0.0
    """Probability that a value of a text's feature is left out before the layer, in training, in [0, 1); ER has 0.5."""
    cim: CimConfig = field(default_factory=CimConfig)
    """The cycle through unseen classes."""

    def __post_init__(self) -> None:
        check(self.width > 0, "method.width", "> 0", self.width)
        once = self.definition.count("{definition}") == 1 and self.definition.count("{action}") <= 1
        check(once, "method.definition", "a text with {definition} once and {action} once at most", self.definition)
        check(self.captions > 0, "method.captions", "> 0", self.captions)
        check(0 <= self.alpha <= 1, "method.alpha", "in [0, 1]", self.alpha)
        check(0 < self.tau < float("inf"), "method.tau", "> 0 and finite", self.tau)
        check(0 <= self.text_dropout < 1, "method.text_dropout", "in [0, 1)", self.text_dropout)
