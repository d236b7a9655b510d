"""Open, validate and measure one video with PyAV. Runs inside the sandbox's child process."""

import hashlib
import mmap
from collections.abc import Iterator
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

# FFmpeg also opens playlists, image sequences and scripts that name other files and hosts: only real containers pass,
# and nothing but local files is ever opened.
SAFE_FORMATS = "mov,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,mxf,ivf,h264,hevc,m4v,obu,mpegvideo,gif"
SAFE_OPTIONS = {"format_whitelist": SAFE_FORMATS, "protocol_whitelist": "file", "fflags": "+genpts"}
HEADER_GAP = 0.1  # a header may promise this share of time more than the packets hold before the file counts as cut
HEADER_GAP_SECONDS = 1.0


@contextmanager
def open_video(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first real video stream of a local file, one decoding thread.

    Raises:
        MediaError: unreadable, not a container, or without video.
    """
    try:
        container = av.open(path, options=SAFE_OPTIONS, metadata_errors="replace")
    except FileNotFoundError:
        raise MediaError("missing", "no such file") from None
    except (PermissionError, IsADirectoryError) as error:
        raise MediaError("unreadable", error.strerror or str(error)) from None
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError("not_video", f"no video container that FFmpeg knows: {_words(error)}") from None
    with container:
        pictures = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & pictures]
        if not streams:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "no streams"
            raise MediaError("no_video_stream", f"holds {kinds} only")
        stream = streams[0]
        if stream.codec_context is None or not stream.codec_context.width:
            raise MediaError("damaged", "the video stream has no known codec or size")
        stream.thread_count = 1
        yield container, stream


def probe(path: str, validate: Validate) -> dict[str, Any]:
    """Everything that planning needs to know of a video; see `shards.schema.SAMPLE` for fields and units.

    Raises:
        MediaError: the file is missing, empty, no video, or does not hold to its end.
    """
    try:
        size = Path(path).stat().st_size
    except FileNotFoundError:
        raise MediaError("missing", "no such file") from None
    except OSError as error:
        raise MediaError("unreadable", error.strerror or str(error)) from None
    if size == 0:
        raise MediaError("empty", "0 bytes")
    with open_video(path) as (container, stream):
        facts = _describe(container, stream)
        if validate == "none":
            frames, stream_hash = None, ""
        else:
            frames, stream_hash = _walk(container, stream, decode=validate == "decode")
    facts["rotation"] = _rotation(path)
    return facts | {"bytes": size, "sha256": sha256_of(Path(path)), "frames": frames, "stream_hash": stream_hash}


def _describe(container: InputContainer, stream: VideoStream) -> dict[str, Any]:
    codec = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate or Fraction(0)
    base = stream.time_base or Fraction(1, 1)
    own = None if stream.duration is None else float(stream.duration * base)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return {
        "container": container.format.name,
        "codec": codec.name,
        "pix_fmt": codec.pix_fmt or "",
        "width": codec.width,
        "height": codec.height,
        "pixel_aspect": float(aspect) if aspect > 0 else 1.0,
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


def _rotation(path: str) -> int:
    """Degrees clockwise that turn a decoded frame upright; the first frame carries it."""
    with open_video(path) as (container, stream):
        try:
            frame = next(container.decode(stream))
        except (av.error.FFmpegError, StopIteration) as error:
            raise MediaError("damaged", f"the first frame does not decode: {_words(error)}") from None
        return -int(frame.rotation) % 360


def _walk(container: InputContainer, stream: VideoStream, *, decode: bool) -> tuple[int, str]:
    """Read every packet, decode every frame when asked; returns how many frames there are and the stream hash."""
    stream.codec_context.options = {"err_detect": "explode"}  # else FFmpeg paints over what does not decode
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
                if packet.is_corrupt:
                    raise MediaError("damaged", f"packet {packets - 1} of the video is marked corrupt")
            if decode:
                for frame in packet.decode():
                    assert isinstance(frame, VideoFrame)
                    if frame.is_corrupt:
                        raise MediaError("damaged", f"frame {frames} does not decode whole")
                    frames += 1
    except av.error.FFmpegError as error:
        raise MediaError("damaged", f"video packet {packets - 1} does not decode: {_words(error)}") from None
    _check_whole(container, stream, packets, end_seconds)
    if not decode:
        frames = packets - discarded
    if frames == 0:
        raise MediaError("damaged", "no frame decodes")
    return frames, digest.hexdigest()


def _check_whole(container: InputContainer, stream: VideoStream, packets: int, end_seconds: float) -> None:
    """FFmpeg ends quietly at the end of a cut file; the header tells what should have come."""
    if "mp4" in container.format.name and packets < stream.frames:
        raise MediaError(
            "damaged", f"cut short: the header lists {stream.frames} video packets, the file holds {packets}"
        )
    promised = (container.duration or 0) / 1e6
    start = (container.start_time or 0) / 1e6
    if promised - (end_seconds - start) > max(HEADER_GAP_SECONDS, HEADER_GAP * promised):
        raise MediaError(
            "damaged", f"cut short: the header promises {promised:.2f} s, the packets end at {end_seconds:.2f} s"
        )


def packet_table(path: str, frames: int | None) -> list[dict[str, Any]]:
    """The video's packets in decode order, with exact payload offsets.

    Args:
        path: a video that was probed.
        frames: how many frames it decodes to, None where nobody counted. Where there are more packets than that, the
            video is decoded once more to find those that show no frame; their pts is null.

    Returns:
        One {offset, size, pts, keyframe} per packet; offset -1 where the payload does not lie in the file in one piece.
    """
    packets = []
    with (
        open_video(path) as (container, stream),
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        for packet in container.demux(stream):
            if packet.size:
                pts = None if packet.is_discard else packet.pts
                offset = _payload_offset(data, packet)
                packets.append({"offset": offset, "size": packet.size, "pts": pts, "keyframe": packet.is_keyframe})
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
        return {frame.pts for frame in container.decode(stream)}


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
