"""The training form: upright, constant rate, every frame on its own, the same bytes every time."""

import av
import numpy as np
import pytest
from reelmill.engine.errors import MediaError
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
