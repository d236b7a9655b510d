"""The options of `bank stats`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ...clip_config import check


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
            check(name, not asked or self.html is not None or self.png is not None, "given with --html or --png", "")
        check("actions", not self.actions or self.vectors is not None, "given with --vectors", self.actions)
