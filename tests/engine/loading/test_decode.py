"""Any frames, in any order, of any codec: the same pictures as decoding the whole video from its start."""

from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from reelmill.engine.errors import MediaError
from reelmill.engine.loading.bitstream import disposable
from reelmill.engine.loading.decode import decode_frames, decode_windows
from reelmill.engine.loading.sampling import View
from reelmill.engine.media.probe import probe
from reelmill.shards.table import Packets, packet_table

FRAMES, WIDTH, HEIGHT = 40, 96, 64
FORMS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264 long gop with b-frames": ("mp4", "libx264", {"g": "30", "bf": "3"}),
    "h264 open gop": ("mkv", "libx264", {"g": "8", "bf": "2", "x264-params": "open-gop=1:b-adapt=0"}),
    "h264 pyramid of b-frames": ("mp4", "libx264", {"x264-params": "keyint=24:bframes=7:b-pyramid=normal:b-adapt=0"}),
    "h264 strict pyramid": ("mkv", "libx264", {"x264-params": "bframes=5:b-pyramid=strict:b-adapt=0"}),
    "h264 interlaced": ("mp4", "libx264", {"flags": "+ildct+ilme", "x264-params": "interlaced=1:bframes=2"}),
    "h264 in slices": ("mp4", "libx264", {"x264-params": "slices=4:bframes=3:b-adapt=0"}),
    "h264 in fragments": ("frag.mp4", "libx264", {"g": "12", "bf": "2"}),
    "hevc open gop": ("mp4", "libx265", {"x265-params": "keyint=8:bframes=3:b-adapt=0:open-gop=1:log-level=none"}),
    "hevc pyramid": ("mkv", "libx265", {"x265-params": "keyint=20:bframes=6:b-adapt=0:b-pyramid=1:log-level=none"}),
    "hevc temporal layers": ("mp4", "libx265", {"x265-params": "bframes=4:temporal-layers=3:log-level=none"}),
    "vp9": ("webm", "libvpx-vp9", {"g": "12"}),
    "vp9 with alt-refs": ("webm", "libvpx-vp9", {"g": "16", "auto-alt-ref": "1", "lag-in-frames": "12"}),
    "vp9 in mp4": ("mp4", "libvpx-vp9", {"g": "16"}),
    "vp8 with hidden frames": ("webm", "libvpx", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    "av1": ("mkv", "libsvtav1", {"g": "16", "preset": "12", "svtav1-params": "lp=1"}),
    "av1 in mp4": ("mp4", "libsvtav1", {"g": "16", "preset": "12", "svtav1-params": "lp=1"}),
    "mpeg4": ("mkv", "mpeg4", {"g": "10", "bf": "2"}),
    "mpeg4 in mp4": ("mp4", "mpeg4", {"g": "12", "bf": "2"}),
    "mpeg2, which is demuxed": ("mkv", "mpeg2video", {"g": "10", "bf": "2"}),
    "mjpeg": ("mkv", "mjpeg", {}),
    "mjpeg in mov": ("mov", "mjpeg", {}),
}
DROPPING = [name for name in FORMS if name.startswith(("h264", "hevc"))]


def write(path: Path, codec: str, options: dict[str, str], frames: int = FRAMES, step: int = 1) -> Path:
    """Noise that moves, so that every prediction counts; with `step` > 1 every third picture stays longer."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (HEIGHT + 2 * frames, WIDTH + 3 * frames, 3), dtype=np.uint8) // 4 + 90
    mux = {"movflags": "frag_keyframe+empty_moov"} if "frag" in path.name else {}
    with av.open(str(path), "w", options=mux) as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.thread_count = 1
        pts = 0
        for n in range(frames):
            picture = ground[2 * n : 2 * n + HEIGHT, 3 * n : 3 * n + WIDTH].copy()
            picture[20:44, (5 * n) % 70 : (5 * n) % 70 + 20] = (250 - 5 * n, 5 * n, 128)
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            pts += step if n % 3 == 0 else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def packets_of(path: Path) -> Packets:
    return Packets.of(packet_table(probe(str(path), "decode", table=True)["packets"]))


def codec_of(path: Path) -> str:
    return str(probe(str(path), "none")["codec"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    @cache
    def make(form: str) -> tuple[bytes, Packets, str, np.ndarray, Path]:
        suffix, codec, options = FORMS[form]
        path = write(tmp_path_factory.mktemp("forms") / f"a.{suffix}", codec, options)
        return path.read_bytes(), packets_of(path), codec_of(path), pictures(path), path

    return make


@pytest.mark.parametrize("form", FORMS)
def test_frames_equal_those_of_a_full_decode(made, form):
    data, packets, codec, whole, _ = made(form)
    assert len(whole) == FRAMES
    lists = [[n] for n in range(FRAMES)]
    lists += [[5, 5, 30, 2], list(range(FRAMES)), list(range(FRAMES - 1, -1, -3))]
    lists += [np.random.default_rng(n).integers(0, FRAMES, 4).tolist() for n in range(8)]
    for wanted in lists:
        frames = decode_frames(data, packets, np.array(wanted), codec=codec, rotation=0)
        assert np.array_equal(frames, whole[wanted]), wanted


@pytest.mark.parametrize("form", DROPPING)
def test_pictures_that_no_other_needs_are_left_out(made, form):
    data, packets, codec, _, path = made(form)
    with av.open(str(path)) as container:
        extradata = container.streams.video[0].codec_context.extradata
    payloads = [data[o : o + s] for o, s in zip(packets.offset.tolist(), packets.size.tolist(), strict=True)]
    free = disposable(codec, extradata, payloads)
    assert FRAMES // 4 <= sum(free) < FRAMES * 3 // 4
    assert not any(key and out for key, out in zip(packets.keyframe.tolist(), free, strict=True))
    # of the same packets with start codes, or cut, nothing is said
    assert disposable(codec, None, payloads) == [False] * len(payloads)
    assert not any(disposable(codec, extradata, [payload[:-1] for payload in payloads]))


def test_packets_of_other_codecs_are_all_kept():
    assert disposable("vp9", b"", [b"\x82\x49\x83", b"\x86"]) == [False, False]


def test_a_video_of_one_frame_and_one_of_varying_rate(tmp_path):
    one = write(tmp_path / "one.mp4", "libx264", {}, frames=1)
    frames = decode_frames(one.read_bytes(), packets_of(one), np.zeros(8, int), codec="h264", rotation=0)
    assert np.array_equal(frames, np.repeat(pictures(one), 8, axis=0))
    uneven = write(tmp_path / "uneven.mkv", "libx264", {"bf": "3"}, step=7)
    wanted = np.array([0, 3, 17, 39])
    frames = decode_frames(uneven.read_bytes(), packets_of(uneven), wanted, codec="h264", rotation=0)
    assert np.array_equal(frames, pictures(uneven)[wanted])


def test_a_video_whose_start_an_edit_list_hides(tmp_path):
    source, cut = write(tmp_path / "a.mp4", "libx264", {"g": "60", "bf": "2"}), tmp_path / "cut.mp4"
    with av.open(str(source)) as given, av.open(str(cut), "w") as taken:
        stream = taken.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = stream
                packet.pts, packet.dts = (t - round(0.4 / packet.time_base) for t in (packet.pts or 0, packet.dts or 0))
                taken.mux(packet)
    packets, whole = packets_of(cut), pictures(cut)
    assert 25 <= len(whole) == packets.shown.sum() < len(packets)
    wanted = np.array([0, 1, 12, len(whole) - 1])
    frames = decode_frames(cut.read_bytes(), packets, wanted, codec="h264", rotation=0)
    assert np.array_equal(frames, whole[wanted])


def test_a_video_with_two_headers_is_demuxed(made):
    data, packets, codec, whole, _ = made("h264 long gop with b-frames")
    place = data.index(b"stsd") + 8
    two = data[:place] + b"\0\0\0\2" + data[place + 4 :]  # FFmpeg reads the second one from what follows, and skips it
    frames = decode_frames(two, packets, np.array([3, 33]), codec=codec, rotation=0)
    assert np.array_equal(frames, whole[[3, 33]])


def test_packets_that_do_not_lie_in_the_file_as_they_are_are_demuxed(made):
    data, packets, codec, whole, _ = made("h264 open gop")
    hidden = replace(packets, offset=np.full(len(packets), -1))
    for wanted in ([0], [39], [5, 5, 30, 2], list(range(FRAMES))):
        assert np.array_equal(decode_frames(data, hidden, np.array(wanted), codec=codec, rotation=0), whole[wanted])


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_frames_come_upright(media, tmp_path, rotation):
    path = media.video(tmp_path / "a.mp4", frames=6, rotation=rotation)
    packets = packets_of(path)
    turned = decode_frames(path.read_bytes(), packets, np.array([2, 4]), codec="h264", rotation=rotation)
    plain = decode_frames(path.read_bytes(), packets, np.array([2, 4]), codec="h264", rotation=0)
    assert np.array_equal(turned, np.rot90(plain, -rotation // 90, axes=(1, 2)))


def test_views_share_their_frames(made):
    data, packets, codec, whole, _ = made("vp9")
    first = View(np.array([3, 9, 9]), (0.0, 0.0), (1.0, 1.0), False)
    second = View(np.array([39, 3, 20]), (0.25, 0.5), (0.5, 0.25), True)
    one, two = decode_windows(data, packets, [first, second], codec=codec, rotation=0)
    assert np.array_equal(one, whole[[3, 9, 9]])
    assert np.array_equal(two, whole[[39, 3, 20], 16:48, 48:72])
    tiny = View(np.array([0]), (0.999, 0.999), (0.001, 0.001), False)
    assert decode_windows(data, packets, [tiny], codec=codec, rotation=0)[0].shape == (1, 1, 1, 3)


def test_damage_is_an_error_not_a_wrong_picture(made):
    data, packets, codec, _, _ = made("h264 long gop with b-frames")
    with pytest.raises(av.error.FFmpegError):
        decode_frames(b"nothing" * 10_000, packets, np.array([3]), codec=codec, rotation=0)
    with pytest.raises(IndexError):
        decode_frames(data, packets, np.array([FRAMES]), codec=codec, rotation=0)
    hidden = replace(packets, offset=np.full(len(packets), -1), pts=packets.pts + 1)
    with pytest.raises(ValueError, match=r"the decoder gave no frame for packet \d+"):
        decode_frames(data, hidden, np.array([3]), codec=codec, rotation=0)
    swapped = replace(packets, offset=packets.offset[::-1].copy(), size=packets.size[::-1].copy())
    with pytest.raises((av.error.FFmpegError, ValueError)):
        decode_frames(data, swapped, np.array([3]), codec=codec, rotation=0)


@pytest.mark.parametrize(("field", "value"), [("offset", 1 << 40), ("offset", -7), ("size", -1), ("size", 1 << 40)])
def test_a_table_that_reaches_out_of_the_file_is_refused(made, field, value):
    data, packets, codec, _, _ = made("mjpeg")
    column = getattr(packets, field).copy()
    column[5] = value
    with pytest.raises(ValueError, match=rf"packet 5 must lie in the video of {len(data)} bytes, but is said to have "):
        decode_frames(data, replace(packets, **{field: column}), np.array([3]), codec=codec, rotation=0)


def test_a_picture_larger_than_the_limits_is_refused(made, monkeypatch):
    monkeypatch.setattr("reelmill.engine.media.limits.MAX_PIXELS", 1000)
    data, packets, codec, _, _ = made("mjpeg")
    with pytest.raises(MediaError, match="limit: pictures must have at most 1000 pixels"):
        decode_frames(data, packets, np.array([3]), codec=codec, rotation=0)
