"""The same video more than once."""

import os
from pathlib import Path

from .kinds import OK, Draw, Kind, Outcome, contents, made
from .media import encode, rewrap

EXACT = Outcome("duplicate", "exact")
STREAM = Outcome("duplicate", "stream")


def _original(draw: Draw) -> bytes:
    return encode(Draw("twins", draw.seed))


def _linked(path: Path, draw: Draw) -> None:
    path.symlink_to("a.mp4")


def _hard_linked(path: Path, draw: Draw) -> None:
    os.link(path.with_name("a.mp4"), path)


KINDS = (
    Kind(name="twin-first", file="a.mp4", why="The first in order stays.", write=contents(_original), expect=OK),
    Kind(
        name="twin-copy",
        file="b.mp4",
        why="The same bytes under another name.",
        write=contents(_original),
        expect=EXACT,
    ),
    Kind(name="twin-link", file="c.mp4", why="A link to the first.", write=_linked, expect=EXACT),
    Kind(name="twin-hard-link", file="d.mp4", why="A second name of the first.", write=_hard_linked, expect=EXACT),
    made(
        "twin-remuxed",
        "e.mkv",
        "The same packets in another container: `--dedup stream` sees it where packets are read.",
        lambda draw: rewrap([_original(draw)], "matroska"),
        STREAM,
        {"none": OK},
    ),
)
