"""The training forms: upright, constant rate, keyframes where they are asked for, the same bytes every time."""

import errno
import resource
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from reelmill.benchmarks.damage.kinds import Draw, Kind
from reelmill.benchmarks.damage.media import encode
from reelmill.benchmarks.damage.shapes import KINDS as SHAPES
from reelmill.benchmarks.damage.times import KINDS as TIMES
from reelmill.engine.errors import MediaError
from reelmill.engine.media import limits, span
from reelmill.engine.media.probe import probe
from reelmill.engine.media.remux import copy_span, remux
from reelmill.engine.media.transcode import output_size, to_h264, to_intra


def pictures(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_every_frame_stands_alone_and_two_runs_are_equal(media, tmp_path):
    source = media.video(tmp_path / "a.mp4", frames=24)
    facts = to_intra(str(source), str(tmp_path / "a.mkv"), short_side=64)
    to_intra(str(source), str(tmp_path / "b.mkv"), short_side=64)
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    assert (facts["codec"], facts["frames"], facts["width"], facts["height"]) == ("mjpeg", 24, 96, 64)
    assert all(facts["packets"]["keyframe"])
    data = (tmp_path / "a.mkv").read_bytes()
    assert all(data[offset:][:2] == b"\xff\xd8" for offset in facts["packets"]["offset"])  # a JPEG starts there
    assert np.abs(pictures(source).astype(int) - pictures(tmp_path / "a.mkv")).mean() < 4


@pytest.mark.parametrize(("rotation", "turns"), [(90, -1), (180, 2), (270, 1)])
def test_rotation_is_baked_in(media, tmp_path, rotation, turns):
    plain = media.video(tmp_path / "plain.mp4", frames=6)
    turned = media.video(tmp_path / "turned.mp4", frames=6, rotation=rotation)
    facts = to_intra(str(turned), str(tmp_path / "a.mkv"), short_side=64)
    want = np.rot90(pictures(plain), turns, axes=(1, 2))
    assert facts["rotation"] == 0
    assert np.abs(want.astype(int) - pictures(tmp_path / "a.mkv")).mean() < 4


def test_a_span_holds_its_frames_alone(media, tmp_path):
    source = media.video(tmp_path / "a.mp4", frames=24, fps=12)
    facts = to_intra(str(source), str(tmp_path / "a.mkv"), short_side=64, start_seconds=0.5, end_seconds=1.0)
    assert facts["frames"] == 6
    assert np.abs(pictures(source)[6:12].astype(int) - pictures(tmp_path / "a.mkv")).mean() < 4


def test_a_span_without_frames(media, tmp_path):
    source = media.video(tmp_path / "a.mp4", frames=12, fps=12)
    with pytest.raises(MediaError, match=r"span: no frame lies between 5.0 s and 6.0 s"):
        to_intra(str(source), str(tmp_path / "a.mkv"), short_side=64, start_seconds=5.0, end_seconds=6.0)


@pytest.mark.parametrize(
    ("size", "want"),
    [
        ((640, 272, 1.0, 0, 256), (602, 256)),
        ((340, 256, 64 / 51, 0, 256), (426, 256)),  # 427 as shown: even
        ((568, 320, 1.0, 90, 256), (256, 454)),
        ((96, 64, 1.0, 0, 256), (96, 64)),  # never enlarged
        ((1, 1, 1.0, 0, 256), (2, 2)),
    ],
)
def test_output_size(size, want):
    assert output_size(*size) == want


def kind(name: str) -> Kind:
    return next(kind for kind in (*SHAPES, *TIMES) if kind.name == name)


def write(name: str, folder) -> str:
    path = folder / str(kind(name).file)
    kind(name).write(path, Draw(name, 0))
    return str(path)


@pytest.mark.parametrize("name", ["resize-ts", "resize-vp9"])
def test_a_size_that_changes_on_the_way_is_scaled_to_the_first(tmp_path, name):
    source = write(name, tmp_path)
    facts = to_intra(source, str(tmp_path / "a.mkv"), short_side=64)
    with av.open(source) as container:
        frames = list(container.decode(video=0))
    assert {(frame.width, frame.height) for frame in frames} == {(64, 48), (96, 80)}
    want = np.stack([frame.to_ndarray(format="rgb24", width=64, height=48) for frame in frames])
    got = pictures(tmp_path / "a.mkv")
    assert (facts["frames"], facts["width"], facts["height"]) == (48, 64, 48)
    assert np.abs(want.astype(int) - got).mean(axis=(1, 2, 3)).max() < 8


@pytest.mark.parametrize("name", ["backwards-ts", "backwards-mkv", "standing-clock"])
def test_a_clock_that_jumps_back_loses_no_frame(tmp_path, name):
    source = write(name, tmp_path)
    facts = to_intra(source, str(tmp_path / "a.mkv"), short_side=64)
    with av.open(source) as container:
        want = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    got = pictures(tmp_path / "a.mkv")
    assert facts["frames"] >= 24
    nearest = [np.abs(got.astype(int) - frame).mean(axis=(1, 2, 3)).min() for frame in want]
    assert max(nearest) < 8


def test_a_bare_stream_without_times_gets_those_of_its_rate(media, tmp_path):
    source = media.video(tmp_path / "a.h264", frames=24, fps=25)
    facts = to_intra(str(source), str(tmp_path / "a.mkv"), short_side=64)
    assert facts["frames"] == 24


def test_what_no_archive_holds_is_encoded(tmp_path):
    (tmp_path / "a.wmv").write_bytes(encode(Draw("a", 0), codec="wmv2", container="asf"))
    assert to_intra(str(tmp_path / "a.wmv"), str(tmp_path / "b.mkv"), short_side=64)["frames"] == 24


def test_a_gap_is_not_filled_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FREE_REPEATS", 10)
    monkeypatch.setattr(limits, "MAX_REPEATS", 2)
    with pytest.raises(MediaError, match="limit: 13 frames must fill at most 36 at a constant 12 per second"):
        to_intra(write("gap-mkv", tmp_path), str(tmp_path / "a.mkv"), short_side=64)


@contextmanager
def largest_file(size: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


FORMS = {
    "remux": partial(remux, audio=False),
    "span": partial(copy_span, start_seconds=0.5, end_seconds=2.0, audio=False, validate="none"),
    "intra": partial(to_intra, short_side=256),
    "h264": partial(to_h264, gop_frames=8, encoder="software", short_side=256),
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_a_form_that_grows_too_large_is_the_videos_fault(tmp_path, make):
    (tmp_path / "a.ts").write_bytes(encode(Draw("a", 0), container="mpegts", size=(256, 256)))
    message = "limit: its copy would hold more than 8589934591 bytes"
    with largest_file(50_000), pytest.raises(MediaError, match=message):
        make(str(tmp_path / "a.ts"), str(tmp_path / "a.mkv"))


def test_a_full_disk_is_not_the_videos_fault(tmp_path, small_disk):
    (tmp_path / "a.mp4").write_bytes(encode(Draw("a", 0), size=(1024, 512)))
    with pytest.raises(OSError, match="No space left on device"):
        to_intra(str(tmp_path / "a.mp4"), str(small_disk / "a.mkv"), short_side=512)


def test_a_shape_of_every_kind_has_a_training_form(tmp_path):
    for shape in SHAPES:
        facts = to_intra(write(shape.name, tmp_path), str(tmp_path / "a.mkv"), short_side=32)
        assert probe(str(tmp_path / "a.mkv"), "decode")["frames"] == facts["frames"], shape.name
        assert facts["width"] % 2 == facts["height"] % 2 == 0


h264 = partial(to_h264, gop_frames=8, encoder="software", short_side=64)


@pytest.mark.parametrize("gop_frames", [1, 8, 100])
def test_h264_has_keyframes_where_they_are_asked_for(media, tmp_path, gop_frames):
    source = media.video(tmp_path / "a.mp4", frames=40)
    facts = h264(str(source), str(tmp_path / "one.mp4"), gop_frames=gop_frames)
    h264(str(source), str(tmp_path / "two.mp4"), gop_frames=gop_frames)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    named = ("codec", "pix_fmt", "frames", "width", "height", "color_range", "color_matrix", "fps")
    assert tuple(facts[name] for name in named) == ("h264", "yuv420p", 40, 96, 64, "tv", "bt470bg", 12.0)
    assert facts["packets"]["keyframe"] == [number % gop_frames == 0 for number in range(40)]
    assert facts["packets"]["pts"] == sorted(facts["packets"]["pts"])  # no B-frames
    assert np.abs(pictures(source).astype(int) - pictures(tmp_path / "one.mp4")).mean() < 4


def test_a_scene_cut_does_not_move_the_keyframes(tmp_path):
    halves = [encode(Draw(name, 0), container="mpegts", frames=11) for name in ("a", "b")]
    (tmp_path / "a.ts").write_bytes(b"".join(halves))
    facts = h264(str(tmp_path / "a.ts"), str(tmp_path / "a.mp4"))
    assert facts["packets"]["keyframe"] == [number % 8 == 0 for number in range(facts["frames"])]


def test_groups_are_closed(media, tmp_path):
    """Every keyframe resets the decoder (IDR): the frames from it on need nothing from before."""
    h264(str(media.video(tmp_path / "a.mp4", frames=24)), str(tmp_path / "b.mp4"))
    with av.open(str(tmp_path / "b.mp4")) as container:
        keys = [bytes(packet) for packet in container.demux(video=0) if packet.is_keyframe]
    for packet in keys:
        kinds, place = set(), 0
        while place < len(packet):
            length = int.from_bytes(packet[place : place + 4], "big")
            kinds.add(packet[place + 4] & 31)
            place += 4 + length
        assert 5 in kinds


@pytest.mark.parametrize("make", [partial(to_intra, short_side=64), h264])
def test_a_rate_that_is_asked_for(media, tmp_path, make):
    source = media.video(tmp_path / "a.mp4", frames=48, fps=24)
    for fps, frames in ((6.0, 12), (24.0, 48), (48.0, 96), (29.97, 60)):
        facts = make(str(source), str(tmp_path / "a.out"), fps=fps)
        assert facts["fps"] == pytest.approx(fps, abs=1e-3)
        assert abs(facts["frames"] - frames) <= 1
    facts = make(str(source), str(tmp_path / "a.out"), fps=6.0, start_seconds=0.5, end_seconds=1.5)
    want = pictures(source)[12:36:4]
    assert np.abs(want.astype(int) - pictures(tmp_path / "a.out")).mean() < 5


def test_a_rate_that_is_asked_for_may_repeat_a_slow_videos_frames(media, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FREE_REPEATS", 0)
    monkeypatch.setattr(limits, "MAX_REPEATS", 2)
    source = media.video(tmp_path / "a.mp4", frames=4, fps=2)
    assert to_intra(str(source), str(tmp_path / "a.mkv"), short_side=64, fps=24.0)["frames"] == 48


@pytest.mark.parametrize("make", [partial(to_intra, short_side=64), h264])
def test_a_clip_begins_at_zero(media, tmp_path, make):
    source = media.video(tmp_path / "a.mp4", frames=48, fps=24)
    facts = make(str(source), str(tmp_path / "a.out"), start_seconds=1.0, end_seconds=1.5)
    assert (facts["frames"], facts["packets"]["pts"][0]) == (12, 0)
    assert facts["duration_seconds"] == pytest.approx(0.5, abs=2e-3)


def test_a_span_counts_from_the_first_frame_whatever_the_clock_says(tmp_path):
    (tmp_path / "a.ts").write_bytes(encode(Draw("a", 0), container="mpegts"))
    (tmp_path / "b.mkv").write_bytes(encode(Draw("a", 0), container="matroska", pts=lambda number: number + 60))
    for name in ("a.ts", "b.mkv"):
        facts = to_intra(str(tmp_path / name), str(tmp_path / "o.mkv"), short_side=48, start_seconds=0.5, end_seconds=1)
        assert facts["frames"] == 6
        want = pictures(tmp_path / name)[6:12]
        assert np.abs(want.astype(int) - pictures(tmp_path / "o.mkv")).mean() < 5


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"x264-params": "open-gop=1:keyint=10:bframes=3:b-adapt=0:scenecut=0"}),
        ("a.mkv", "libx264", {"x264-params": "intra-refresh=1:keyint=10:bframes=0"}),
        ("a.webm", "libvpx-vp9", {"g": "10", "deadline": "realtime", "cpu-used": "8"}),
        ("a.avi", "mpeg4", {"g": "10", "bf": "2"}),
        ("a.mpg", "mpeg2video", {"g": "10", "bf": "2"}),
    ],
)
def test_seeking_to_a_span_changes_no_byte(media, tmp_path, monkeypatch, name, codec, options):
    source = media.video(tmp_path / name, frames=50, fps=25, codec=codec, options=options)
    spans = [(0.3, 0.7), (0.4, 0.5), (0.79, 1.3), (1.6, None)]

    def made(number, start, end):
        out = tmp_path / f"{number}.mkv"
        to_intra(str(source), str(out), short_side=64, start_seconds=start, end_seconds=end)
        return out.read_bytes()

    sought = [made(number, *span_) for number, span_ in enumerate(spans)]
    monkeypatch.setattr(span, "_sought", lambda *arguments: None)
    assert sought == [made(number, *span_) for number, span_ in enumerate(spans)]


def test_a_span_is_sought_and_not_reached_by_decoding(media, tmp_path):
    source = media.video(tmp_path / "a.mp4", frames=100, fps=25, options={"g": "10", "sc_threshold": "0"})
    with span.frames_before(str(source), 3.1) as found:
        assert next(found.frames).time == 2.8


@pytest.mark.parametrize(("make", "suffix"), [(partial(to_intra, short_side=64), "mkv"), (h264, "mp4")])
def test_sound_goes_along_if_it_is_wanted(tmp_path, make, suffix):
    source, out = str(tmp_path / "a.mp4"), tmp_path / f"b.{suffix}"
    Path(source).write_bytes(encode(Draw("a", 0), audio_seconds=2.0))
    make(source, str(out), audio=True, start_seconds=0.5, end_seconds=1.5)
    first = out.read_bytes()
    make(source, str(out), audio=True, start_seconds=0.5, end_seconds=1.5)
    assert out.read_bytes() == first
    with av.open(str(out)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        times = [float((p.pts or 0) * p.time_base) for p in packets if p.stream.type == "audio"]
        assert sum(packet.stream.type == "video" for packet in packets) == 12
    assert 0 <= times[0] < 0.07
    assert 0.9 < times[-1] < 1.0
    make(source, str(out), start_seconds=0.5, end_seconds=1.5)
    with av.open(str(out)) as container:
        assert not container.streams.audio


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="needs a machine without an NVIDIA GPU")
def test_a_machine_without_the_encoder_is_not_the_videos_fault(media, tmp_path):
    source = media.video(tmp_path / "a.mp4", frames=4)
    with pytest.raises(OSError, match="h264_nvenc finds no GPU with an encoder") as raised:
        h264(str(source), str(tmp_path / "b.mp4"), encoder="nvenc", short_side=256)
    assert raised.value.errno == errno.ENODEV
