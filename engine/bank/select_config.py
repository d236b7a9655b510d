"""The options of `bank select|stats|shard`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ...shards.errors import UsageError


def _check(name: str, holds: bool, must: str, got: Any) -> None:
    if not holds:
        raise UsageError(f"{name} must be {must}, got {got}")


@dataclass(frozen=True, kw_only=True)  # slots would not let `super` through
class _JobConfig:
    """Where the work is done; what comes out does not depend on it."""

    bank: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BANK")]
    """The bank folder."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to make: new, empty, or holding this same job unfinished."""
    workers: int = 0
    """Ray tasks at a time; 0 for one per CPU of the cluster."""
    address: str | None = None
    """An existing Ray cluster ("auto" or host:port); without one a local Ray is started, or none for a small bank."""
    memory_mb: int = 0
    """What the tasks of a local Ray may take together, MB; 0 leaves it to Ray (most of the machine)."""
    task_seconds: float = 3600.0
    """After this long without an end a task is sent to another worker, with twice the time; > 0."""
    resume: bool = True
    """Go on with the same job, unfinished; --no-resume starts over."""

    def __post_init__(self) -> None:
        for name in ("workers", "memory_mb"):
            _check(name, getattr(self, name) >= 0, ">= 0", getattr(self, name))
        _check("task_seconds", self.task_seconds > 0, "> 0", self.task_seconds)
        same = self.out.absolute() == self.bank.absolute()
        _check("out", not same, f"another folder than the bank {self.bank}", "the same")


@dataclass(frozen=True, kw_only=True)
class SelectConfig(_JobConfig):
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
        _check("top_k", self.top_k > 0, "> 0", self.top_k)
        got = "both" if self.vectors is not None and self.model is not None else "neither"
        _check("relevance", (self.vectors is None) != (self.model is None), "by --vectors or by --model", got)
        together = (self.model is None) == (self.weights is None)
        _check("weights", together, "given exactly with --model", self.weights)


@dataclass(frozen=True, kw_only=True)
class ShardConfig(_JobConfig):
    """Write a bank as WebDataset tars by action block, as `ingest --bank` puts them beside videos."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StatsConfig:
    """Count what a bank holds: its actions, their descriptions and sentences, and how these are spread."""

    bank: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BANK")]
    """The bank folder."""
    html: Path | None = None
    """Write a page with the plots to this file; it stands alone."""
    png: Path | None = None
    """Write the plots into this folder, as PNG files."""
    vectors: Path | None = None
    """A file of word vectors (as `bank select` takes it): shows how texts and names of some actions lie to each other,
    and which actions are nearest by their names and by their descriptions."""
    actions: tuple[str, ...] = ()
    """With --vectors: the actions that are shown; without, five with many descriptions."""

    def __post_init__(self) -> None:
        for name in ("vectors", "actions"):
            asked = bool(getattr(self, name))
            _check(name, not asked or self.html is not None or self.png is not None, "given with --html or --png", "")
        _check("actions", not self.actions or self.vectors is not None, "given with --vectors", self.actions)
