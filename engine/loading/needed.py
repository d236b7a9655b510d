"""Which packets a decoder must see for some frames of a video; pure."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from ...shards.table import Packets

Run = tuple[int, int]
"""First and last packet of a stretch that is decoded in one go, by their places in decode order."""


def places_of(packets: Packets, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """The packets that show some frames.

    Args:
        packets: of the video.
        indices: (T,) frames by their place in display order.

    Returns:
        (T,) int64, places in decode order.

    Raises:
        IndexError: there is no such frame.
    """
    shown = np.flatnonzero(packets.shown)
    return shown[np.argsort(packets.pts[shown], kind="stable")][indices]


def runs_of(packets: Packets, places: Sequence[int]) -> list[Run]:
    """The stretches to decode for the frames that some packets show, in decode order.

    Each begins at a keyframe (or the first packet) and ends with the last wanted packet that can be reached by going on
    from there; starting at a keyframe costs nothing, so a stretch goes on only where the next one would overlap it.

    Args:
        packets: of the video.
        places: of the packets, in decode order.
    """
    runs: list[Run] = []
    for place in sorted(set(places)):
        start, end = _start(packets, place), _end(packets, place)
        while runs and start <= runs[-1][1]:  # a picture before a keyframe in an open group needs what is before both
            start = min(start, runs.pop()[0])
        runs.append((start, end))
    return runs


def _start(packets: Packets, place: int) -> int:
    """The keyframe to decode from: the last one at or before the packet that is not shown after it (open groups)."""
    upto = slice(0, place + 1)
    starts = np.flatnonzero(packets.keyframe[upto] & packets.shown[upto] & (packets.pts[upto] <= packets.pts[place]))
    # without one, the keyframe shows no picture of its own: an edit list hides the start of the video
    return int(starts[-1]) if len(starts) else 0


def _end(packets: Packets, place: int) -> int:
    """The packet itself, or the one after it if that shows nothing: it may hold the second field of the picture."""
    following = place + 1
    return following if following < len(packets) and not packets.shown[following] else place


def left_out(packets: Packets, run: Run, wanted: Collection[int], disposable: Sequence[bool]) -> set[int]:
    """The packets of a run that no wanted frame needs.

    Args:
        packets: of the video.
        run: its stretch.
        wanted: packets whose frames are asked for.
        disposable: for each packet of the run, whether the other pictures come out the same without it.
    """
    out: set[int] = set()
    for place, free in zip(range(run[0], run[1] + 1), disposable, strict=True):
        # one that shows nothing may be the second field of the picture before it, and goes only with that
        if free and place not in wanted and (packets.shown[place] or place - 1 in out):
            out.add(place)
    return out
