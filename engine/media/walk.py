"""One pass over a video's packets: what must hold is checked, and what is seen on the way is kept."""

import hashlib
import mmap
from collections.abc import Callable, Iterator
from typing import Any

import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..config import Validate
from ..errors import MediaError
from .limits import check_count, check_size
from .video import decode_error, upright_turn

HEADER_GAP = 0.1  # a header may promise this share of time more than the packets hold before the file counts as cut
HEADER_GAP_SECONDS = 1.0
# ISO/IEC 23091-2 numbers, as FFmpeg reports them
COLOR_MATRICES = {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
COLOR_RANGES = {1: "tv", 2: "pc"}

VideoPacket = Any  # av.Packet[VideoStream]; the class takes no parameter at run time


class Walk:
    """Goes as far as `validate` asks, but at least to the first picture; with a table to the end."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        validate: Validate,
        on_frame: Callable[[VideoFrame], None] | None,
        table: "PacketTable | None",
    ) -> None:
        self._container, self._stream, self._validate = container, stream, validate
        self._on_frame, self._table = on_frame, table
        self._digest = hashlib.blake2b(digest_size=16)
        self._packets = self._discarded = self._frames = 0
        self._ends: dict[int, int] = {}  # of each stream, in its own time base
        self._look: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Read, decode and check; returns the facts that only this tells.

        Raises:
            MediaError: what does not hold.
        """
        options = {} if self._on_frame else {"skip_loop_filter": "all"}  # it cannot fail, and nobody sees the pictures
        if self._validate == "decode":  # else FFmpeg paints over what does not decode
            options |= {"err_detect": "crccheck+explode"}
        self._stream.codec_context.options = options
        for packet in self._demuxed():
            if packet.size:
                self._count(packet)
            if self._validate == "decode":
                self._decode(packet)
            elif not self._look:
                self._first_picture(packet)
            if self._look and self._validate == "none" and self._table is None:
                break
        if self._validate != "none":
            self._check_whole()
        if not self._look:
            raise MediaError("damaged", "no frame decodes")
        return self._facts()

    def _facts(self) -> dict[str, Any]:
        walked = self._validate != "none"
        frames = self._frames if self._validate == "decode" else self._packets - self._discarded
        check_count(frames)
        facts: dict[str, Any] = {"frames": frames if walked else None, "stream_hash": ""}
        if walked:
            facts["stream_hash"] = self._digest.hexdigest()
        if walked or self._table is not None:
            facts["walked_seconds"] = max(0.0, self._end_seconds() - self._start_seconds())
        if self._table is not None:
            packets = self._table.columns(frames if self._validate == "decode" else None)
            facts |= {"packets": packets, "frames": sum(pts is not None for pts in packets["pts"])}
        return facts | self._look

    def _demuxed(self) -> Iterator[VideoPacket]:
        streams = [self._stream] if self._validate == "none" else []
        video, ends = self._stream.index, self._ends
        try:
            for packet in self._container.demux(*streams):
                index, pts = packet.stream_index, packet.pts
                if pts is not None:
                    end = pts + (packet.duration or 0)
                    if end > ends.get(index, 0):
                        ends[index] = end
                if index == video:
                    yield packet
        except av.error.FFmpegError as error:
            raise decode_error(error, f"video packet {self._packets - 1}") from None

    def _count(self, packet: VideoPacket) -> None:
        payload = bytes(packet)
        if self._validate != "none":
            self._digest.update(payload)
            if packet.is_corrupt:
                raise MediaError("damaged", f"packet {self._packets} of the video is marked corrupt")
        self._packets += 1
        self._discarded += packet.is_discard
        check_count(self._packets)
        if self._table is not None:
            self._table.add(packet, payload)

    def _decode(self, packet: VideoPacket) -> None:
        try:
            for frame in packet.decode():
                check_size(frame.width, frame.height)
                if frame.is_corrupt:
                    raise MediaError("damaged", f"frame {self._frames} does not decode whole")
                self._look = self._look or look_of(frame)
                if self._table is not None:
                    self._table.shown.add(frame.pts)
                if self._on_frame is not None:
                    self._on_frame(frame)
                self._frames += 1
        except av.error.FFmpegError as error:
            raise decode_error(error, f"video packet {self._packets - 1}") from None

    def _first_picture(self, packet: VideoPacket) -> None:
        """Decode a packet as if it were the last, so that the decoder does not wait for more."""
        codec = self._stream.codec_context
        try:
            frames = packet.decode()
            if not frames and packet.size:
                frames = codec.decode(None)
                codec.flush_buffers()
        except av.error.FFmpegError as error:
            raise decode_error(error, "the first frame") from None
        for frame in frames[:1]:
            check_size(frame.width, frame.height)
            self._look = look_of(frame)

    def _check_whole(self) -> None:
        """FFmpeg ends quietly at the end of a cut file; the header tells what should have come."""
        listed = self._stream.frames
        if "mp4" in self._container.format.name and self._packets < listed:
            raise MediaError(
                "damaged", f"cut short: the header lists {listed} video packets, the file holds {self._packets}"
            )
        promised = (self._container.duration or 0) / 1e6
        # Containers differ in whether a late first frame is part of the length: the milder reading counts.
        reached = max(self._end_seconds(), self._end_seconds() - self._start_seconds())
        if promised - reached > max(HEADER_GAP_SECONDS, HEADER_GAP * promised):
            raise MediaError(
                "damaged", f"cut short: the header promises {promised:.2f} s, the packets hold {reached:.2f} s"
            )

    def _end_seconds(self) -> float:
        bases = {index: self._container.streams[index].time_base for index in self._ends}
        return max((float(end * base) for index, end in self._ends.items() if (base := bases[index])), default=0.0)

    def _start_seconds(self) -> float:
        return (self._container.start_time or 0) / 1e6


class PacketTable:
    """Where each packet of the video lies in its file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._rows: list[tuple[int, int, int | None, bool]] = []
        self.shown: set[int | None] = set()
        """Times at which a picture was decoded."""

    def add(self, packet: VideoPacket, payload: bytes) -> None:
        """Take the next packet, in decode order."""
        pts = None if packet.is_discard else packet.pts
        self._rows.append((self._offset(packet.pos, payload), len(payload), pts, packet.is_keyframe))

    def columns(self, frames: int | None) -> dict[str, list[Any]]:
        """The table; with the number of decoded frames, packets of which none came have no pts."""
        columns = zip(*self._rows, strict=True)  # there are rows: a video without packets has no first picture
        table = dict(zip(("offset", "size", "pts", "keyframe"), map(list, columns), strict=True))
        if frames is not None and sum(pts is not None for pts in table["pts"]) != frames:
            table["pts"] = [pts if pts in self.shown else None for pts in table["pts"]]
        return table

    def _offset(self, place: int | None, payload: bytes) -> int:
        """Matroska reports the start of the block, not of the payload in it."""
        if place is None or place < 0:
            return -1
        if self._data[place : place + len(payload)] == payload:
            return place
        return self._data.find(payload, place, place + len(payload) + 64)


def look_of(frame: VideoFrame) -> dict[str, Any]:
    """What a picture says about how it is stored."""
    return {
        "width": frame.width,
        "height": frame.height,
        "pix_fmt": frame.format.name,
        "color_matrix": COLOR_MATRICES.get(int(frame.colorspace), "unspecified"),
        "color_range": COLOR_RANGES.get(int(frame.color_range), "unspecified"),
        "rotation": upright_turn(frame),
    }
