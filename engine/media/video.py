"""Open one untrusted video with PyAV, and say in one line why it does not open. Runs inside the sandbox's child."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import MediaError
from .limits import check_size, is_size

# FFmpeg also opens playlists, image sequences and scripts that name other files and hosts: only real containers pass,
# and nothing but local files is ever opened.
SAFE_FORMATS = "mov,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,mxf,ivf,h264,hevc,m4v,obu,mpegvideo,gif"
SAFE_OPTIONS = {"format_whitelist": SAFE_FORMATS, "protocol_whitelist": "file", "fflags": "+genpts"}
# Without decoders FFmpeg opens a video in a tenth of the time. The headers of these containers say all but the pixel
# format; for decoding that is too little: H.264 may then come out of order at first.
WITHOUT_DECODERS = {"codec_whitelist": "none"}
TELLING_HEADERS = ("mov,mp4", "matroska,webm")
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
def open_video(path: str, *, to_decode: bool = True) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first real video stream of a local file, one decoding thread.

    Args:
        path: of the file.
        to_decode: False where packets are enough, and at most the first picture: much faster.

    Raises:
        MediaError: unreadable, not a container, without video, or with larger pictures than `limits` allow.
    """
    file_size(path)
    container = None if to_decode else _opened_fast(path)
    if container is None:
        container = _opened(path, SAFE_OPTIONS)
    with container:
        stream = _video_stream(container)
        if stream.codec_context is None or not stream.codec_context.width:
            raise MediaError("damaged", "the video stream has no known codec or size")
        check_size(stream.codec_context.width, stream.codec_context.height)
        stream.thread_count = 1
        yield container, stream


def _opened(path: str, options: dict[str, str]) -> InputContainer:
    try:
        return av.open(path, options=options, metadata_errors="replace")
    except FileNotFoundError:
        raise MediaError("missing", "no such file") from None
    except (av.error.FFmpegError, ValueError) as error:
        raise _not_opened(path, error) from None


def _opened_fast(path: str) -> InputContainer | None:
    """Opened without decoders, where that tells all there is."""
    container = _opened(path, SAFE_OPTIONS | WITHOUT_DECODERS)
    codecs = [stream.codec_context for stream in container.streams.video]
    told = all(codec is not None and is_size(codec.width, codec.height) for codec in codecs)
    if told and container.format.name.startswith(TELLING_HEADERS):
        return container
    container.close()
    return None


def _video_stream(container: InputContainer) -> VideoStream:
    pictures = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & pictures]
    if not container.streams:
        raise MediaError("damaged", "the header lists no streams")
    if not streams:
        kinds = ", ".join(sorted({"a cover picture" if s.type == "video" else s.type for s in container.streams}))
        raise MediaError("no_video_stream", f"holds {kinds} only")
    return streams[0]


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


def frames_of(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Every frame from here on; a picture larger than `limits` allow ends it with a MediaError."""
    for frame in container.decode(stream):
        check_size(frame.width, frame.height)
        yield frame


def words(error: Exception) -> str:
    """What FFmpeg says, without numbers and paths."""
    return getattr(error, "strerror", None) or str(error)
