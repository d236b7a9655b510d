"""Copies without re-encoding: the very pictures of the source, from a keyframe on, and a table that says from where."""

import hashlib
import itertools
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from reelmill.benchmarks.damage.corpus import all_kinds
from reelmill.benchmarks.damage.kinds import Draw
from reelmill.benchmarks.damage.media import encode
from reelmill.engine.errors import MediaError
from reelmill.engine.media import span
from reelmill.engine.media.mux import packets_of
from reelmill.engine.media.remux import copy_span, remux

RATE, FRAMES = 25, 75
X264 = "keyint=20:bframes=3:b-adapt=0:b-pyramid=normal:scenecut=0"
X265 = "keyint=20:bframes=4:b-adapt=0:scenecut=0:pools=none:frame-threads=1:log-level=none"
VPX = {"g": "20", "deadline": "good", "cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "12"}
SOURCES = {
    "h264.mp4": ("libx264", {"x264-params": X264}),
    "h264.mkv": ("libx264", {"x264-params": X264}),
    "h264.ts": ("libx264", {"x264-params": X264}),
    "open.mp4": ("libx264", {"x264-params": f"{X264}:open-gop=1"}),
    "open.mkv": ("libx264", {"x264-params": f"{X264}:open-gop=1"}),
    "refresh.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=20:bframes=0"}),
    "hevc.mp4": ("libx265", {"x265-params": f"{X265}:open-gop=0"}),
    "hevc-open.mkv": ("libx265", {"x265-params": f"{X265}:open-gop=1"}),
    "vp8.webm": ("libvpx", VPX),
    "vp9.webm": ("libvpx-vp9", VPX),
    "mpeg4.avi": ("mpeg4", {"g": "20", "bf": "2"}),
    "mpeg2.mpg": ("mpeg2video", {"g": "15", "bf": "2"}),
}
KEYFRAMES = {"g": "6", "sc_threshold": "0"}  # every half second
SPANS = [(0.0, 1.0), (0.5, 1.5), (0.8, 1.31), (1.21, 2.43), (0.76, 0.84), (2.2, 9.0), (None, None)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A camera moves over a texture, in every codec that has a way of its own to look ahead or back."""
    folder: Path = tmp_path_factory.mktemp("sources")
    texture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    large = av.VideoFrame.from_ndarray(texture, format="rgb24").reformat(256, 192, interpolation="BICUBIC")
    picture = large.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    for name, (codec, options) in SOURCES.items():
        with av.open(str(folder / name), "w") as sink:
            stream: Any = sink.add_stream(codec, rate=RATE, options=options)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            stream.thread_count = 1
            for i in range(FRAMES):
                x, y = int(80 + 70 * np.sin(i / 9)), int(60 + 50 * np.cos(i / 7))
                frame = np.ascontiguousarray(picture[y : y + 64, x : x + 96])
                sink.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            sink.mux(stream.encode(None))
    return folder


def odd(path: str, folder: Path) -> str:
    """A file of the damage corpus."""
    kind = all_kinds()[path]
    kind.write(folder / str(kind.file), Draw(kind.name, 0))
    return str(folder / str(kind.file))


def pictures(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def shown(path) -> list[tuple[float, str]]:
    """(seconds after the first frame, hash of the picture) of every frame."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        frames = [
            (frame.time, hashlib.md5(frame.to_ndarray().tobytes()).hexdigest()) for frame in container.decode(video=0)
        ]
    return [(moment - frames[0][0], picture) for moment, picture in frames]


def copied(source, out, span, *, audio=False, validate="decode"):
    start, end = span
    return copy_span(str(source), str(out), start_seconds=start, end_seconds=end, audio=audio, validate=validate)


@pytest.mark.parametrize("name", SOURCES)
def test_a_copy_shows_the_very_pictures_and_says_which(sources, tmp_path, name):
    before = shown(sources / name)
    assert len(before) == FRAMES
    for start, end in SPANS:
        facts = copied(sources / name, tmp_path / "a.mkv", (start, end))
        begin, until = facts["start_seconds"], facts["end_seconds"]
        want = [(moment, picture) for moment, picture in before if begin - 1e-3 <= moment < until - 1e-3]
        got = shown(tmp_path / "a.mkv")
        assert [picture for _, picture in got] == [picture for _, picture in want]
        assert max(abs(one[0] + begin - other[0]) for one, other in zip(got, want, strict=True)) < 2e-3
        assert facts["frames"] == len(got)
        inside = [moment for moment, _ in before if (start or 0) <= moment < (end or 99)]
        assert begin <= inside[0] + 1e-6
        assert inside[-1] < until <= inside[-1] + 10 / RATE


def test_a_copy_begins_at_the_last_keyframe_and_runs_no_further_than_it_must(sources, tmp_path):
    facts = copied(sources / "h264.mp4", tmp_path / "a.mkv", (1.0, 1.16))
    assert (facts["start_seconds"], facts["end_seconds"], facts["frames"]) == (0.8, 1.16, 9)
    facts = copied(sources / "h264.mp4", tmp_path / "a.mkv", (0.8, 1.1))
    assert (facts["start_seconds"], facts["end_seconds"]) == (0.8, 1.16)  # its B-frames need the one shown at 1.12
    facts = copied(sources / "open.mp4", tmp_path / "a.mkv", (0.8, 1.0))
    assert facts["start_seconds"] == 0.8
    assert facts["packets"]["keyframe"][0]


def test_a_gradual_refresh_begins_where_the_span_is_whole(sources, tmp_path):
    facts = copied(sources / "refresh.mp4", tmp_path / "a.mkv", (1.7, 2.0))
    assert facts["start_seconds"] < 1.7 - 10 / RATE


def test_two_copies_are_equal(sources, tmp_path):
    for name in ("a.mkv", "b.mkv"):
        copied(sources / "open.mkv", tmp_path / name, (0.5, 1.5), validate="none")
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_a_span_without_frames(sources, tmp_path):
    with pytest.raises(MediaError, match=r"span: no frame lies between 5.0 s and 6.0 s"):
        copied(sources / "h264.mp4", tmp_path / "a.mkv", (5.0, 6.0))
    with pytest.raises(MediaError, match=r"span: no frame lies between 0.41 s and 0.43 s"):
        copied(sources / "h264.mp4", tmp_path / "a.mkv", (0.41, 0.43))


def test_a_bare_stream_has_no_spans_to_copy(media, tmp_path):
    source = media.video(tmp_path / "a.h264", frames=24, fps=25)
    with pytest.raises(MediaError, match="transcode: bare h264 without times; --preset train-cpu gives it some"):
        copied(source, tmp_path / "b.mkv", (0.0, 0.5))


def with_sound(folder: Path, container="mp4") -> Path:
    path = folder / f"sound.{container}"
    path.write_bytes(encode(Draw("a", 0), audio_seconds=2.0, options=KEYFRAMES | {"bf": "0"}, container=container))
    return path


def tracks(path) -> dict[str, list[float]]:
    """Times of the packets of each kind of track."""
    with av.open(str(path)) as container:
        found: dict[str, list[float]] = {}
        for packet in container.demux():
            if packet.size:
                found.setdefault(packet.stream.type, []).append(float((packet.pts or 0) * packet.time_base))
        return found


def test_sound_goes_along_with_a_copy(tmp_path):
    source = with_sound(tmp_path)
    facts = copied(source, tmp_path / "a.mkv", (0.6, 1.1), audio=True)
    assert (facts["start_seconds"], facts["end_seconds"]) == (0.5, pytest.approx(1.166667))
    got = tracks(tmp_path / "a.mkv")
    assert len(got["video"]) == 8
    assert 0 <= min(got["audio"]) < 0.07
    assert 0.6 - 0.07 < max(got["audio"]) < 0.667
    copied(source, tmp_path / "b.mkv", (0.6, 1.1), audio=False)
    assert list(tracks(tmp_path / "b.mkv")) == ["video"]


@pytest.mark.parametrize("container", ["mp4", "avi", "mpegts"])
def test_sound_goes_along_with_a_remux_or_does_not(tmp_path, container):
    source = with_sound(tmp_path, container)
    before = tracks(source)
    assert remux(str(source), str(tmp_path / "a.mkv"), audio=True)["frames"] == 24
    after = tracks(tmp_path / "a.mkv")
    assert {kind: len(times) for kind, times in after.items()} == {kind: len(times) for kind, times in before.items()}
    assert abs((after["audio"][5] - after["video"][5]) - (before["audio"][5] - before["video"][5])) < 2e-3
    remux(str(source), str(tmp_path / "b.mkv"), audio=False)
    assert list(tracks(tmp_path / "b.mkv")) == ["video"]


def test_sound_that_matroska_does_not_take(tmp_path):
    with av.open(str(tmp_path / "a.mov"), "w") as sink:
        video = sink.add_stream("libx264", rate=12)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = sink.add_stream("adpcm_ima_qt", rate=16000, layout="mono")
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 64), np.int16), format="s16p", layout="mono")
        wave.sample_rate, wave.pts = 16000, 0
        for number in range(12):
            sink.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
            wave.pts = 64 * number
            sink.mux(sound.encode(wave))
        sink.mux(video.encode(None))
        sink.mux(sound.encode(None))
    message = "transcode: matroska does not take adpcm_ima_qt sound; --audio drop leaves it out"
    with pytest.raises(MediaError, match=message):
        remux(str(tmp_path / "a.mov"), str(tmp_path / "a.mkv"), audio=True)
    assert remux(str(tmp_path / "a.mov"), str(tmp_path / "a.mkv"), audio=False)["frames"] == 12


def test_times_that_run_backwards_between_decoding_and_showing_are_copied(tmp_path):
    """An mp4 with negative composition offsets shows frames before it decodes them, by its own account."""
    mux = {"movflags": "negative_cts_offsets"}
    (tmp_path / "a.mp4").write_bytes(encode(Draw("a", 0), mux=mux, options=KEYFRAMES | {"bf": "2"}))
    assert remux(str(tmp_path / "a.mp4"), str(tmp_path / "a.mkv"), audio=False)["frames"] == 24
    assert [picture for _, picture in shown(tmp_path / "a.mp4")] == [
        picture for _, picture in shown(tmp_path / "a.mkv")
    ]
    assert copied(tmp_path / "a.mp4", tmp_path / "b.mkv", (0.6, 1.0))["start_seconds"] == 0.5


def test_a_long_video_is_not_read_whole_for_each_of_its_clips(sources, tmp_path, monkeypatch):
    read = []

    def counted(source, stream):
        for packet in packets_of(source, stream):
            read.append(packet.pts)
            yield packet

    monkeypatch.setattr(span, "packets_of", counted)
    copied(sources / "h264.mkv", tmp_path / "a.mkv", (0.9, 1.0))
    assert min(read) == 800
    assert max(read) < 2000
    read.clear()
    with pytest.raises(MediaError, match="span: no frame lies between"):
        copied(sources / "h264.mkv", tmp_path / "a.mkv", (9000.0, 9001.0))
    assert len(read) <= 20


@pytest.mark.parametrize(("suffix", "codec"), [(".avi", "mpeg4"), (".ts", "libx264"), (".mpg", "mpeg2video")])
def test_remux_keeps_every_picture(media, tmp_path, suffix, codec):
    source = media.video(tmp_path / f"a{suffix}", codec=codec, frames=20, fps=25)
    facts = remux(str(source), str(tmp_path / "a.mkv"), audio=True)
    assert facts["frames"] == 20
    assert np.array_equal(pictures(source), pictures(tmp_path / "a.mkv"))


def test_a_copy_keeps_a_size_that_changes_on_the_way(tmp_path):
    source = odd("shapes/resize.ts", tmp_path)
    remux(source, str(tmp_path / "a.mkv"), audio=True)
    with av.open(source) as before, av.open(str(tmp_path / "a.mkv")) as after:
        pairs = zip(before.decode(video=0), after.decode(video=0), strict=True)
        assert all(np.array_equal(one.to_ndarray(), other.to_ndarray()) for one, other in pairs)


def test_a_copy_of_a_clock_that_jumps_back_has_one_that_does_not(tmp_path):
    facts = remux(odd("times/backwards.ts", tmp_path), str(tmp_path / "a.mkv"), audio=True)
    assert facts["frames"] == 24
    times = sorted(facts["packets"]["pts"])
    assert facts["time_base"] == "1/1000"
    assert times[-1] - times[0] < 2200
    assert all(60 < later - earlier < 110 for earlier, later in itertools.pairwise(times))


def test_what_has_a_decoder_and_no_encoder_is_copied(tmp_path):
    (tmp_path / "a.mp4").write_bytes(encode(Draw("a", 0), codec="libsvtav1", frames=6))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "libdav1d"
    assert remux(str(tmp_path / "a.mp4"), str(tmp_path / "a.mkv"), audio=True)["codec"] == "av1"


def test_what_matroska_does_not_take(media, tmp_path):
    (tmp_path / "a.wmv").write_bytes(encode(Draw("a", 0), codec="wmv2", container="asf"))
    with pytest.raises(MediaError, match="transcode: Matroska does not take wmv2; --preset train-cpu re-encodes it"):
        remux(str(tmp_path / "a.wmv"), str(tmp_path / "a.mkv"), audio=True)
    source = media.video(tmp_path / "a.h264", frames=24, fps=25)
    with pytest.raises(MediaError, match="transcode: bare h264 without times; --preset train-cpu gives it some"):
        remux(str(source), str(tmp_path / "b.mkv"), audio=True)
