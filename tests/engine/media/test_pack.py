"""JPEG files become a Matroska file without decoding, and what is no JPEG is told."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reelmill.engine.errors import MediaError
from reelmill.engine.loading.decode import decode_frames, head_of
from reelmill.engine.media import pack as pack_module
from reelmill.engine.media.look import look
from reelmill.engine.media.pack import pack, picture_of
from reelmill.engine.sources.frames import open_frames
from reelmill.shards.table import Packets, packet_table

KINDS = {
    "4:2:0": {"subsampling": 2},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "grey": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
}


@pytest.fixture
def jpeg(media):
    def make(index: int = 0, *, width: int = 96, height: int = 64, mode: str = "RGB", **options: object) -> bytes:
        file = io.BytesIO()
        picture = Image.fromarray(media.frame(index, width, height)).convert(mode)
        picture.save(file, "JPEG", **({"quality": 90} | options))
        return file.getvalue()

    return make


def folder_of(folder: Path, files: list[bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(files, 1):
        (folder / f"img_{number:05d}.jpg").write_bytes(data)
    return folder


def packed(folder: Path, fps: float = 25) -> bytes:
    pack(open_frames(str(folder)), str(folder / "out.mkv"), fps=fps)
    return (folder / "out.mkv").read_bytes()


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("fps", [25, 29.97, 0.5])
def test_packets_are_the_files_and_decode_alike(jpeg, tmp_path, options, fps):
    files = [jpeg(index, **options) for index in range(5)]
    folder = folder_of(tmp_path / "a", files)
    data = packed(folder, fps)
    facts = look(str(folder / "out.mkv"), "decode", table=True)
    assert (facts["frames"], facts["codec"], facts["width"], facts["height"]) == (5, "mjpeg", 96, 64)
    assert facts["duration_seconds"] == pytest.approx(5 / fps, abs=0.002)
    packets = Packets.of(packet_table(facts["packets"]))
    places = zip(packets.offset.tolist(), packets.size.tolist(), strict=True)
    assert [data[offset : offset + size] for offset, size in places] == files
    assert head_of("mjpeg", packets) == "jpeg"
    clip = decode_frames(data, packets, np.arange(5), codec="mjpeg", rotation=0).astype(int)
    theirs = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]).astype(int)
    assert np.abs(clip - theirs).mean() < 1.5  # another decoder: its colours are rounded otherwise
    assert packed(folder, fps) == data


def test_frames_of_another_size_or_kind_end_it(jpeg, tmp_path):
    files = [jpeg(0), jpeg(1), jpeg(2, width=64)]
    with pytest.raises(MediaError, match=r"img_00003.jpg is 64x64 .* 96x64 .sampled 2x2 1x1 1x1. before it"):
        packed(folder_of(tmp_path / "size", files))
    with pytest.raises(MediaError, match=r"damaged: img_00002.jpg is 96x64 .sampled 1x1."):
        packed(folder_of(tmp_path / "kind", [jpeg(0), jpeg(1, mode="L")]))


def test_what_is_no_whole_jpeg_is_told(jpeg, tmp_path):
    whole, png = jpeg(0), io.BytesIO()
    Image.new("RGB", (96, 64)).save(png, "PNG")
    with_preview = jpeg(0, exif=_exif_with(jpeg(0, width=16, height=16)))
    damaged = {
        "png": (png.getvalue(), "is no JPEG: it begins with 89504e47"),
        "text": (b"<html>", "is no JPEG"),
        "half": (whole[:-300], "is cut short"),
        "half, with a preview inside": (with_preview[: len(with_preview) - 300], "is cut short"),
        "header alone": (whole[:100], "no readable header"),
        "start alone": (b"\xff\xd8", "no readable header"),
        "segments without an end": (b"\xff\xd8" + b"\xff\xe0\0\2" * 20_000, "no readable header"),
        "no size": (_with_size(whole, 0, 0), "without size"),
    }
    assert picture_of(with_preview)[:2] == (96, 64)
    for name, (data, words) in damaged.items():
        with pytest.raises(MediaError, match=f"damaged: img_00002.jpg .*{words}"):
            packed(folder_of(tmp_path / name, [whole, data]))


def test_kinds_that_no_decoder_takes_and_sizes_beyond_the_limits(jpeg, tmp_path):
    whole = jpeg(0)
    arithmetic = whole.replace(b"\xff\xc0", b"\xff\xc9", 1)
    with pytest.raises(MediaError, match=r"transcode: img_00001.jpg is a JPEG of kind 0xc9 with 08 bits"):
        packed(folder_of(tmp_path / "arithmetic", [arithmetic]))
    with pytest.raises(MediaError, match=r"limit: pictures must have at most"):
        packed(folder_of(tmp_path / "large", [_with_size(whole, 65500, 65500)]))


def test_limits_on_bytes(jpeg, tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "a", [jpeg(0)] * 3)
    monkeypatch.setattr(pack_module, "MAX_JPEG_BYTES", 100)
    with pytest.raises(MediaError, match=r"limit: img_00001.jpg has .* bytes, at most 100"):
        packed(folder)
    monkeypatch.setattr(pack_module, "MAX_WRITTEN_BYTES", 2000)
    with pytest.raises(MediaError, match=r"limit: .* bytes of frames, at most 2000"):
        packed(folder)


def test_files_that_change_meanwhile(jpeg, tmp_path):
    folder = folder_of(tmp_path / "a", [jpeg(0)] * 3)
    seen = open_frames(str(folder))
    (folder / "img_00002.jpg").write_bytes(jpeg(1) + b"more")
    with pytest.raises(MediaError, match=r"changed: img_00002.jpg changed"):
        pack(seen, str(tmp_path / "out.mkv"), fps=25)
    os.unlink(folder / "img_00002.jpg")
    with pytest.raises(MediaError, match=r"changed: img_00002.jpg went away"):
        pack(seen, str(tmp_path / "out.mkv"), fps=25)


def _with_size(data: bytes, width: int, height: int) -> bytes:
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[place + 4 :]


def _exif_with(preview: bytes) -> bytes:
    """An application segment that holds a whole JPEG, end mark and all."""
    return b"Exif\0\0" + preview
