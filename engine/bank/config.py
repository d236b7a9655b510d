"""The options of jobs that read a bank, and of `bank shard`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..clip_config import check


@dataclass(frozen=True, kw_only=True)  # slots would not let `super` through
class JobConfig:
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
            check(name, getattr(self, name) >= 0, ">= 0", getattr(self, name))
        check("task_seconds", self.task_seconds > 0, "> 0", self.task_seconds)
        same = self.out.absolute() == self.bank.absolute()
        check("out", not same, f"another folder than the bank {self.bank}", "the same")


@dataclass(frozen=True, kw_only=True)
class ShardConfig(JobConfig):
    """Write a bank as WebDataset tars by action block, as `ingest --bank` puts them beside videos."""
