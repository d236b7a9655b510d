"""Things under a video's name that hold no video: pages, pictures, archives, sound."""

import io
import tarfile
import zipfile

import av
from PIL import Image

from .kinds import NOT_VIDEO, Draw, Outcome, made
from .media import encode, picture, sound_only

NO_VIDEO = Outcome("failed", "no_video_stream")


def _image(draw: Draw, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(draw, 0, 64, 48)).save(file, form)
    return file.getvalue()


def _zip(draw: Draw) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("inside.mp4"), encode(draw))
    return file.getvalue()


def _tar(draw: Draw) -> bytes:
    file, data = io.BytesIO(), encode(draw)
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        info = tarfile.TarInfo("inside.mp4")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _subtitles(draw: Draw) -> bytes:
    file, script = io.BytesIO(), f"1\n00:00:00,000 --> 00:00:02,000\nline {draw.number}\n"
    with (
        av.open(io.BytesIO(script.encode()), "r", format="srt") as source,
        av.open(file, "w", format="matroska", options={"fflags": "+bitexact"}) as sink,
    ):
        copy = sink.add_stream_from_template(source.streams.subtitles[0])
        for packet in source.demux(source.streams.subtitles[0]):
            if packet.size:
                packet.stream = copy
                sink.mux(packet)
    return file.getvalue()


_PAGE = "<!DOCTYPE html><html><title>404</title><body>Not found</body></html>"
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{0:064x}\nsize 1048576\n"

KINDS = (
    made("text", "text.mp4", "Plain text.", lambda draw: f"{draw.name} not a video\n".encode() * 50, NOT_VIDEO),
    made(
        "web-page", "page.mp4", "An error page that a downloader saved.", lambda draw: (_PAGE * 20).encode(), NOT_VIDEO
    ),
    made(
        "lfs-pointer",
        "pointer.mp4",
        "A Git LFS pointer whose content was not fetched.",
        lambda draw: _POINTER.format(draw.number).encode(),
        NOT_VIDEO,
    ),
    made("jpeg", "photo.mp4", "A still photograph.", lambda draw: _image(draw, "JPEG"), NOT_VIDEO),
    made("png", "photo.mkv", "A still picture.", lambda draw: _image(draw, "PNG"), NOT_VIDEO),
    made("zip", "zip.mp4", "A zip archive with a video in it: archives are not looked into.", _zip, NOT_VIDEO),
    made("tar", "tar.mp4", "A tar archive with a video in it.", _tar, NOT_VIDEO),
    made("random", "random.mp4", "Random bytes.", lambda draw: draw.random.randbytes(20_000), NOT_VIDEO),
    made(
        "zeros",
        "zeros.mp4",
        "All bytes are zero: reserved space that nothing was written to.",
        lambda draw: bytes(10_000),
        NOT_VIDEO,
    ),
    made("one-byte", "one-byte.mp4", "A single byte.", lambda draw: b"\0", NOT_VIDEO),
    made("empty", "empty.mp4", "No bytes.", lambda draw: b"", Outcome("failed", "empty")),
    made("sound-only", "sound.mp4", "Sound without a picture.", lambda draw: sound_only("mp4"), NO_VIDEO),
    made("sound-only-mkv", "sound.mkv", "Sound without a picture.", lambda draw: sound_only("matroska"), NO_VIDEO),
    made(
        "wav",
        "wav.avi",
        "A bare sound file.",
        lambda draw: (
            b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x44\xac\0\0\x88\x58\x01\0\x02\0\x10\0data\0\x08\0\0"
            + bytes(2048)
        ),
        NOT_VIDEO,
    ),
    made("subtitles-only", "subtitles.mkv", "Subtitles alone.", _subtitles, NO_VIDEO),
)
