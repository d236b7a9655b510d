"""What one kind of damaged or odd file is: its name, how it is made, and what must become of it."""

import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...engine.config import Preset, Validate
from ...shards.ledger import Reason, Status


class Outcome(NamedTuple):
    """What the ledger must say of a file."""

    status: Status
    reason: Reason = ""

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else self.status


OK = Outcome("ok")
DAMAGED = Outcome("failed", "damaged")
NOT_VIDEO = Outcome("failed", "not_video")
LIMIT = Outcome("failed", "limit")
UNREADABLE = Outcome("failed", "unreadable")
TRANSCODE = Outcome("failed", "transcode")


@dataclass(frozen=True, slots=True)
class Draw:
    """The source of everything random in one file: a pure function of the kind's name and the corpus's seed."""

    name: str
    seed: int

    @property
    def number(self) -> int:
        """32 bits, different for every kind, so that no two files hold the same pictures by chance."""
        return zlib.crc32(f"{self.seed} {self.name}".encode())

    @property
    def random(self) -> random.Random:
        """A fresh generator; every use starts the same sequence."""
        return random.Random(self.number)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One file of the corpus."""

    name: str
    file: str | bytes
    """Under its family's folder; bytes where the name is no UTF-8."""
    why: str
    """One sentence: what is odd, and why the outcome is right."""
    write: Callable[[Path, Draw], None]
    """Makes the file."""
    expect: Outcome | None
    """With `--validate decode --preset archive`, and wherever `unless` says nothing else; None where the file is no
    input at all."""
    unseen: bool = False
    """Something is wrong with the file and nothing in it tells."""
    unless: Mapping[str, Outcome] = field(default_factory=dict)
    """Outcomes that differ, by "<preset> <validate>", "<preset>" or "<validate>"; the longer name wins. "train-*" is
    every preset that encodes."""

    def outcome(self, preset: Preset, validate: Validate) -> Outcome | None:
        """What the ledger must say under these options."""
        form = preset if preset == "archive" else "train-*"
        for options in (f"{form} {validate}", form, validate):
            if options in self.unless:
                return self.unless[options]
        return self.expect


LATE: Mapping[str, Outcome] = {"packets": OK, "none": OK}
"""`unless` of damage that only decoding shows."""
UNREAD: Mapping[str, Outcome] = {"none": OK}
"""`unless` of damage that reading to the end shows."""


def contents(make: Callable[[Draw], bytes]) -> Callable[[Path, Draw], None]:
    """`Kind.write` for a plain file that holds what `make` returns."""

    def write(path: Path, draw: Draw) -> None:
        path.write_bytes(make(draw))

    return write


def made(
    name: str,
    file: str,
    why: str,
    make: Callable[[Draw], bytes],
    expect: Outcome,
    unless: Mapping[str, Outcome] | None = None,
    *,
    unseen: bool = False,
) -> Kind:
    """A kind that is a plain file with the bytes that `make` returns."""
    return Kind(name=name, file=file, why=why, write=contents(make), expect=expect, unless=unless or {}, unseen=unseen)
