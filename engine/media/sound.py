"""The sound of a clip: packets of the first sound track, copied beside the pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from ..errors import MediaError
from .mux import Clock, packets_of, shift
from .video import open_video


class Sound:
    """A track of its own reader, so that it is written in step with the pictures however the source lays them out."""

    def __init__(self, source: InputContainer, stream: AudioStream) -> None:
        self._source, self._stream = source, stream
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None

    def begin(self, sink: OutputContainer, start: float | None = None, end: float = inf) -> None:
        """Add the track to a file.

        Args:
            sink: nothing must be written yet.
            start: on the source's clock, seconds: what comes before is left out, and this becomes time 0. None takes
                all, on the source's clock.
            end: likewise, exclusive.

        Raises:
            MediaError: "transcode", the file does not take the codec.
        """
        name = self._stream.codec_context.codec.canonical_name
        try:
            copy = sink.add_stream_from_template(self._stream, opaque=True)
        except ValueError:
            detail = f"{sink.format.name} does not take {name} sound; --audio drop leaves it out"
            raise MediaError("transcode", detail) from None
        self._packets = self._cut(copy, name, start, end)
        self._next = next(self._packets, None)

    def write(self, sink: OutputContainer, until: float | None) -> None:
        """Write the packets that begin before `until` seconds of the written clock; None writes the rest."""
        while self._next is not None and (until is None or self._next.dts * self._next.time_base < until):
            sink.mux(self._next)
            self._next = next(self._packets, None)

    def _cut(self, copy: Any, name: str, start: float | None, end: float) -> Iterator[Any]:
        clock = Clock()
        for packet in packets_of(self._source, self._stream):
            if packet.dts is None and packet.pts is None:
                raise MediaError("transcode", f"{name} sound without times; --audio drop leaves it out")
            packet.dts = packet.pts if packet.dts is None else packet.dts
            clock.set(packet)
            moment = packet.dts * packet.time_base
            if moment >= end:
                return
            if start is None or moment >= start:
                shift(packet, -(start or 0))
                packet.stream = copy
                yield packet


@contextmanager
def sound_of(path: str, wanted: bool) -> Iterator[Sound | None]:
    """The first sound track of a video; None where there is none, or it is not wanted."""
    if not wanted:
        yield None
        return
    with open_video(path) as (container, _):
        tracks = [track for track in container.streams.audio if track.codec_context is not None]
        yield Sound(container, tracks[0]) if tracks else None
