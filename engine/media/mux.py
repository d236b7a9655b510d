"""Write one media file: packets in, the same bytes every time, and blame where it belongs when it fails."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from typing import Any

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from ..errors import MediaError
from . import limits
from .video import words

MUX_OPTIONS = {"fflags": "+bitexact"}  # keeps random ids and versions out


@contextmanager
def written(out: str, container: str, failure: str) -> Iterator[OutputContainer]:
    """A file to write; tells what the medium did from what the disk did: only the latter stays an OSError.

    Args:
        out: path of the file.
        container: FFmpeg's name of the muxer.
        failure: what to say of a medium that cannot be written.

    Raises:
        MediaError: "transcode" with `failure`, or "limit".
        OSError: the disk refused.
    """
    sink = av.open(out, "w", format=container, options=MUX_OPTIONS)
    try:
        yield sink
        sink.close()  # what is buffered is written here
    except av.error.FFmpegError as error:
        if error.errno == errno.EFBIG:
            raise MediaError("limit", f"its copy would hold more than {limits.MAX_WRITTEN_BYTES} bytes") from None
        if isinstance(error, MemoryError):
            raise MediaError("limit", f"{failure}: needs more memory than one video may take") from None
        if isinstance(error, OSError):
            raise
        raise MediaError("transcode", f"{failure}: {words(error)}") from None
    finally:
        with suppress(av.error.FFmpegError):
            sink.close()


def packets_of(source: InputContainer, stream: Stream) -> Iterator[Any]:
    """The packets of one stream that hold something, in decode order.

    Raises:
        MediaError: "damaged", the file does not read to its end.
    """
    try:
        for packet in source.demux(stream):
            if packet.size:
                yield packet
    except av.error.FFmpegError as error:
        raise MediaError("damaged", f"does not read to its end: {words(error)}") from None


class Clock:
    """Sets packets forward where their decoding times stand still or jump back, which no muxer takes."""

    def __init__(self) -> None:
        self._shift, self._last, self._step = 0, None, 1

    def set(self, packet: Any) -> None:
        """Move one packet, in decode order."""
        if packet.dts is not None:
            packet.dts += self._shift
            if self._last is not None and packet.dts <= self._last:
                forward = self._last + self._step - packet.dts
                self._shift += forward
                packet.dts += forward
            self._last, self._step = packet.dts, max(1, packet.duration or 1)
        if packet.pts is not None:
            packet.pts += self._shift


def shift(packet: Any, seconds: float, ahead: float = 0.0) -> None:
    """Show a packet that much later, and decode it `ahead` seconds earlier than that."""
    base = packet.time_base
    if packet.pts is not None:
        packet.pts += round(seconds / base)
    if packet.dts is not None:
        packet.dts += round(seconds / base) - ceil(ahead / base)
