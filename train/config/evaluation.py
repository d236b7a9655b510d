"""What an evaluation is asked to do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .check import Device, check

ProtocolName = Literal["base-novel", "closed-set"]
Given = Literal["none", "first-word", "last-word"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """One evaluation of a run's newest checkpoint."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    protocol: ProtocolName = "base-novel"
    """base-novel: base and novel classes, each among their own, and the harmonic mean; closed-set: the base classes."""
    given: Given = "none"
    """Also measure the accuracy among the classes that share this word with the right one: last-word of "push cup" asks
    for the verb where the noun is given."""
    dataset: str | None = None
    """Folder of the dataset to evaluate on; without it the one that was trained on."""
    split: str | None = None
    """Split to evaluate on, empty for every sample; without it the run's `data.eval_split`."""
    clips: int = 1
    """Clips per video, spread evenly in time, > 0."""
    crops: Literal[1, 3] = 1
    """Crops per clip: the centre, or left, centre and right."""
    batch: int = 64
    """Videos per forward pass, > 0."""
    device: Device = "auto"
    """auto takes a GPU where there is one."""
    threads: int = 0
    """CPU threads of torch; 0 leaves torch's own choice."""

    def __post_init__(self) -> None:
        check(self.clips > 0, "clips", "> 0", self.clips)
        check(self.batch > 0, "batch", "> 0", self.batch)
        check(self.threads >= 0, "threads", ">= 0", self.threads)
