"""Open, validate and measure one video with PyAV. Runs inside the sandbox's child process."""

import errno
import hashlib
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..shards.files import sha256_of
from .config import Validate
from .errors import MediaError
from .limits import believable_aspect, check_count, check_size

# FFmpeg also opens playlists, image sequences and scripts that name other files and hosts: only real containers pass,
# and nothing but local files is ever opened.
SAFE_FORMATS = "mov,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,mxf,ivf,h264,hevc,m4v,obu,mpegvideo,gif"
SAFE_OPTIONS = {"format_whitelist": SAFE_FORMATS, "protocol_whitelist": "file", "fflags": "+genpts"}
HEADER_GAP = 0.1  # a header may promise this share of time more than the packets hold before the file counts as cut
HEADER_GAP_SECONDS = 1.0
SIGNATURES = {  # (place, bytes) of a container that does not open: a broken video is told from a web page
    "mp4": ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"moof"), (4, b"wide"), (4, b"free"), (4, b"styp")),
    "Matroska": ((0, b"\x1a\x45\xdf\xa3"),),
    "AVI": ((8, b"AVI "),),
    "MPEG": ((0, b"\0\0\x01\xba"), (0, b"\0\0\x01\xb3")),
    "Flash video": ((0, b"FLV"),),
    "ASF": ((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),),
    "Ogg": ((0, b"OggS"),),
    "GIF": ((0, b"GIF8"),),
}
KINDS_OF_FILES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def file_size(path: str) -> int:
    """Bytes of a plain file; nothing else is ever opened: reading a pipe or a device may never end.

    Raises:
        MediaError: nothing there, no plain file, or empty.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise MediaError("missing", "no such file") from None
    except OSError as error:
        raise MediaError("unreadable", error.strerror or str(error)) from None
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS_OF_FILES.get(stat.S_IFMT(status.st_mode), "something else")
        raise MediaError("unreadable", f"must be a plain file, is {kind}")
    if status.st_size == 0:
        raise MediaError("empty", "0 bytes")
    return status.st_size


@contextmanager
def open_video(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first real video stream of a local file, one decoding thread.

    Raises:
        MediaError: unreadable, not a container, without video, or with larger pictures than `limits` allow.
    """
    file_size(path)
    try:
        container = av.open(path, options=SAFE_OPTIONS, metadata_errors="replace")
    except FileNotFoundError:
        raise MediaError("missing", "no such file") from None
    except (av.error.FFmpegError, ValueError) as error:
        raise _not_opened(path, error) from None
    with container:
        pictures = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & pictures]
        if not container.streams:
            raise MediaError("damaged", "the header lists no streams")
        if not streams:
            kinds = ", ".join(sorted({"a cover picture" if s.type == "video" else s.type for s in container.streams}))
            raise MediaError("no_video_stream", f"holds {kinds} only")
        stream = streams[0]
        if stream.codec_context is None or not stream.codec_context.width:
            raise MediaError("damaged", "the video stream has no known codec or size")
        check_size(stream.codec_context.width, stream.codec_context.height)
        stream.thread_count = 1
        yield container, stream


def _not_opened(path: str, error: Exception) -> MediaError:
    if isinstance(error, MemoryError):
        return MediaError("limit", "its header asks for more memory or streams than one video may have")
    if isinstance(error, PermissionError):
        return MediaError("unreadable", words(error))
    with open(path, "rb") as file:
        start = file.read(16)
    for name, signatures in SIGNATURES.items():
        if any(start[place : place + len(word)] == word for place, word in signatures):
            return MediaError("damaged", f"begins as {name} and does not open: {words(error)}")
    return MediaError("not_video", f"no video container that FFmpeg knows: {words(error)}")


def decode_error(error: av.error.FFmpegError, what: str) -> MediaError:
    """What an error of a decoder says about the video: it is damaged, or wants too much memory."""
    if error.errno == errno.ENOMEM:
        return MediaError("limit", f"{what} needs more memory than one video may take")
    return MediaError("damaged", f"{what} does not decode: {words(error)}")


def upright_turn(frame: VideoFrame) -> int:
    """Degrees clockwise that turn a decoded frame upright; 0 for anything but quarter turns."""
    turn = -int(frame.rotation) % 360
    return turn if turn % 90 == 0 else 0


def probe(path: str, validate: Validate, on_frame: Callable[[VideoFrame], None] = lambda frame: None) -> dict[str, Any]:
    """Everything that planning needs to know of a video; see `shards.schema.SAMPLE` for fields and units.

    Args:
        path: of the video.
        validate: how much of it must hold.
        on_frame: gets every decoded frame in presentation order, with validate "decode".

    Raises:
        MediaError: the file is missing, empty, no video, or does not hold to its end.
    """
    size = file_size(path)
    with open_video(path) as (container, stream):
        facts = _describe(container, stream)
        if validate == "none":
            frames, stream_hash = None, ""
        else:
            frames, stream_hash = _walk(container, stream, on_frame if validate == "decode" else None)
    facts["rotation"] = _rotation(path)
    return facts | {"bytes": size, "sha256": sha256_of(Path(path)), "frames": frames, "stream_hash": stream_hash}


def _describe(container: InputContainer, stream: VideoStream) -> dict[str, Any]:
    codec = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate or Fraction(0)
    base = stream.time_base or Fraction(1, 1)
    own = None if stream.duration is None else float(stream.duration * base)
    return {
        "container": container.format.name,
        "codec": codec.codec.canonical_name,
        "pix_fmt": codec.pix_fmt or "",
        "width": codec.width,
        "height": codec.height,
        "pixel_aspect": believable_aspect(stream.sample_aspect_ratio),
        "color_matrix": _color_name(codec.colorspace, COLOR_MATRICES),
        "color_range": _color_name(codec.color_range, COLOR_RANGES),
        "fps": float(rate),
        "time_base": str(base),
        "duration_seconds": own if own is not None else (container.duration or 0) / 1e6,
    }


# ISO/IEC 23091-2 numbers, as FFmpeg reports them
COLOR_MATRICES = {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
COLOR_RANGES = {1: "tv", 2: "pc"}


def _color_name(value: int, names: dict[int, str]) -> str:
    return names.get(int(value), "unspecified")


def frames_of(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Every frame from here on; a picture larger than `limits` allow ends it with a MediaError."""
    for frame in container.decode(stream):
        check_size(frame.width, frame.height)
        yield frame


def _rotation(path: str) -> int:
    """The first frame carries it."""
    with open_video(path) as (container, stream):
        try:
            return upright_turn(next(frames_of(container, stream)))
        except av.error.FFmpegError as error:
            raise decode_error(error, "the first frame") from None
        except StopIteration:
            raise MediaError("damaged", "no frame decodes") from None


def _walk(
    container: InputContainer, stream: VideoStream, on_frame: Callable[[VideoFrame], None] | None
) -> tuple[int, str]:
    """Read every packet, decode every frame when asked; returns how many frames there are and the stream hash."""
    stream.codec_context.options = {"err_detect": "crccheck+explode"}  # else FFmpeg paints over what does not decode
    digest = hashlib.blake2b(digest_size=16)
    packets, discarded, frames, end_seconds = 0, 0, 0, 0.0
    try:
        for packet in container.demux():
            if packet.pts is not None and packet.time_base is not None:
                end_seconds = max(end_seconds, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != stream.index:
                continue
            if packet.size:
                digest.update(memoryview(packet))
                packets += 1
                discarded += packet.is_discard
                check_count(packets)
                if packet.is_corrupt:
                    raise MediaError("damaged", f"packet {packets - 1} of the video is marked corrupt")
            if on_frame is not None:
                for frame in packet.decode():
                    on_frame(_whole(frame, frames))
                    frames += 1
    except av.error.FFmpegError as error:
        raise decode_error(error, f"video packet {packets - 1}") from None
    _check_whole(container, stream, packets, end_seconds)
    if on_frame is None:
        frames = packets - discarded
    check_count(frames)
    if frames == 0:
        raise MediaError("damaged", "no frame decodes")
    return frames, digest.hexdigest()


def _whole(frame: Any, number: int) -> VideoFrame:
    assert isinstance(frame, VideoFrame)
    check_size(frame.width, frame.height)
    if frame.is_corrupt:
        raise MediaError("damaged", f"frame {number} does not decode whole")
    return frame


def _check_whole(container: InputContainer, stream: VideoStream, packets: int, end_seconds: float) -> None:
    """FFmpeg ends quietly at the end of a cut file; the header tells what should have come."""
    if "mp4" in container.format.name and packets < stream.frames:
        raise MediaError(
            "damaged", f"cut short: the header lists {stream.frames} video packets, the file holds {packets}"
        )
    promised = (container.duration or 0) / 1e6
    # Containers differ in whether a late first frame is part of the length: the milder reading counts.
    reached = max(end_seconds, end_seconds - (container.start_time or 0) / 1e6)
    if promised - reached > max(HEADER_GAP_SECONDS, HEADER_GAP * promised):
        raise MediaError(
            "damaged", f"cut short: the header promises {promised:.2f} s, the packets hold {reached:.2f} s"
        )


def packet_table(path: str, frames: int | None) -> list[dict[str, Any]]:
    """The video's packets in decode order, with exact payload offsets.

    Args:
        path: a video that was probed.
        frames: how many frames it decodes to, None where nobody counted. Where there are more packets than that, the
            video is decoded once more to find those that show no frame; their pts is null.

    Returns:
        One {offset, size, pts, keyframe} per packet; offset -1 where the payload does not lie in the file in one piece.

    Raises:
        MediaError: the file does not open or read, or holds more packets than `limits` allow.
    """
    packets: list[dict[str, Any]] = []
    with (
        open_video(path) as (container, stream),
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        try:
            for packet in container.demux(stream):
                if packet.size:
                    pts = None if packet.is_discard else packet.pts
                    offset = _payload_offset(data, packet)
                    packets.append({"offset": offset, "size": packet.size, "pts": pts, "keyframe": packet.is_keyframe})
                    check_count(len(packets))
        except av.error.FFmpegError as error:
            raise MediaError("damaged", f"video packet {len(packets)} does not read: {words(error)}") from None
    if frames is not None and sum(p["pts"] is not None for p in packets) != frames:
        shown = _shown_pts(path)
        packets = [p | {"pts": p["pts"] if p["pts"] in shown else None} for p in packets]
    return packets


def _payload_offset(data: mmap.mmap, packet: "av.Packet[VideoStream]") -> int:
    """Matroska reports the start of the block, not of the payload in it."""
    if packet.pos is None or packet.pos < 0:
        return -1
    return data.find(bytes(packet), packet.pos, packet.pos + packet.size + 64)


def _shown_pts(path: str) -> set[int | None]:
    with open_video(path) as (container, stream):
        try:
            return {frame.pts for frame in frames_of(container, stream)}
        except av.error.FFmpegError as error:
            raise decode_error(error, "the video") from None


def words(error: Exception) -> str:
    """What FFmpeg says, without numbers and paths."""
    return getattr(error, "strerror", None) or str(error)
