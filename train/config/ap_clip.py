"""The options of AP-CLIP."""

from dataclasses import dataclass
from typing import Literal

from .check import check


@dataclass(frozen=True, kw_only=True, slots=True)
class ApClipConfig:
    """AP-CLIP: every class is a set of prompts made of its name and texts out of the bank."""

    name: Literal["ap-clip"] = "ap-clip"
    """The method."""
    prefix: str = "a video of {action}. "
    """What every prompt begins with; {action} is the class name. Empty where the descriptions say it all: a name that
    was never trained on only disturbs a text encoder with random weights."""
    prompts_per_class: int = 8
    """Descriptions drawn from the bank per class, once per run, all of them where there are fewer; 0 reads no bank and
    describes a class by the prefix alone."""

    def __post_init__(self) -> None:
        once = self.prefix.count("{action}") <= 1
        check(once, "method.prefix", "a text with {action} in it once at most", self.prefix)
        check(self.prompts_per_class >= 0, "method.prompts_per_class", ">= 0", self.prompts_per_class)
