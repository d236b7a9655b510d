"""The training form: upright, constant rate, every frame on its own, the same bytes every time."""

import itertools
import resource
from contextlib import contextmanager
from functools import partial

import av
import numpy as np
import pytest
from reelmill.benchmarks.damage.kinds import Draw, Kind
from reelmill.benchmarks.damage.media import encode
from reelmill.benchmarks.damage.shapes import KINDS as SHAPES
from reelmill.benchmarks.damage.times import KINDS as TIMES
from reelmill.engine import limits
from reelmill.engine.errors import MediaError
from reelmill.engine.probe import probe
from reelmill.engine.transcode import output_size, remux, to_intra


def pictures(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_every_frame_stands_alone_and_two_runs_are_equal(media, tmp_path):
    source = media.video(tmp_path / "a.mp4", frames=24)
    facts = to_intra(str(source), str(tmp_path / "a.mkv"), short_side=64)
    to_intra(str(source), str(tmp_path / "b.mkv"), short_side=64)
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    assert (facts["codec"], facts["frames"], facts["width"], facts["height"]) == ("mjpeg", 24, 96, 64)
    assert all(packet["keyframe"] for packet in facts["packets"])
    data = (tmp_path / "a.mkv").read_bytes()
    assert all(data[packet["offset"] :][:2] == b"\xff\xd8" for packet in facts["packets"])  # a JPEG starts there
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


@pytest.mark.parametrize(("suffix", "codec"), [(".avi", "mpeg4"), (".ts", "libx264"), (".mpg", "mpeg2video")])
def test_remux_keeps_every_picture(media, tmp_path, suffix, codec):
    source = media.video(tmp_path / f"a{suffix}", codec=codec, frames=20, fps=25)
    facts = remux(str(source), str(tmp_path / "a.mkv"))
    assert facts["frames"] == 20
    assert np.array_equal(pictures(source), pictures(tmp_path / "a.mkv"))


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


def test_a_copy_keeps_a_size_that_changes_on_the_way(tmp_path):
    source = write("resize-ts", tmp_path)
    remux(source, str(tmp_path / "a.mkv"))
    with av.open(source) as before, av.open(str(tmp_path / "a.mkv")) as after:
        pairs = zip(before.decode(video=0), after.decode(video=0), strict=True)
        assert all(np.array_equal(one.to_ndarray(), other.to_ndarray()) for one, other in pairs)


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


def test_a_copy_of_a_clock_that_jumps_back_has_one_that_does_not(tmp_path):
    facts = remux(write("backwards-ts", tmp_path), str(tmp_path / "a.mkv"))
    assert facts["frames"] == 24
    times = sorted(packet["pts"] for packet in facts["packets"])
    assert facts["time_base"] == "1/1000"
    assert times[-1] - times[0] < 2200
    assert all(60 < later - earlier < 110 for earlier, later in itertools.pairwise(times))


def test_a_bare_stream_without_times_gets_those_of_its_rate(media, tmp_path):
    source = media.video(tmp_path / "a.h264", frames=24, fps=25)
    facts = to_intra(str(source), str(tmp_path / "a.mkv"), short_side=64)
    assert facts["frames"] == 24
    with pytest.raises(MediaError, match="transcode: bare h264 without times; --preset train-cpu gives it some"):
        remux(str(source), str(tmp_path / "b.mkv"))


def test_matroska_does_not_take_every_codec(tmp_path):
    (tmp_path / "a.wmv").write_bytes(encode(Draw("a", 0), codec="wmv2", container="asf"))
    with pytest.raises(MediaError, match="transcode: Matroska does not take wmv2; --preset train-cpu re-encodes it"):
        remux(str(tmp_path / "a.wmv"), str(tmp_path / "a.mkv"))
    assert to_intra(str(tmp_path / "a.wmv"), str(tmp_path / "b.mkv"), short_side=64)["frames"] == 24


def test_what_has_a_decoder_and_no_encoder_is_copied(tmp_path):
    (tmp_path / "a.mp4").write_bytes(encode(Draw("a", 0), codec="libsvtav1", frames=6))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "libdav1d"
    assert remux(str(tmp_path / "a.mp4"), str(tmp_path / "a.mkv"))["codec"] == "av1"


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


@pytest.mark.parametrize("make", [remux, partial(to_intra, short_side=256)])
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
