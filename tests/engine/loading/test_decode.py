"""Any frames, in any order, of any codec: the same pictures as decoding the whole video from its start."""

from dataclasses import replace

import av
import numpy as np
import pytest
from reelmill.engine.loading.decode import AugmentGraph, decode_frames
from reelmill.engine.loading.sampling import View
from reelmill.engine.media.probe import probe
from reelmill.shards.table import Packets, packet_table

FORMS = {
    "h264 long gop with b-frames": ("a.mp4", "libx264", {"g": "30", "bf": "3"}),
    "h264 open gop": ("a.mkv", "libx264", {"g": "8", "bf": "2", "x264-params": "open-gop=1"}),
    "hevc open gop": ("a.mp4", "libx265", {"x265-params": "keyint=8:open-gop=1:log-level=none"}),
    "vp9": ("a.webm", "libvpx-vp9", {"g": "12"}),
    "vp8 with hidden frames": ("a.webm", "libvpx", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    "mpeg4": ("a.mkv", "mpeg4", {"g": "10", "bf": "2"}),
    "mjpeg": ("a.mkv", "mjpeg", {}),
}


def pictures(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def packets_of(path) -> Packets:
    return Packets.of(packet_table(probe(str(path), "decode", table=True)["packets"]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wanted", [[0], [39], [5, 5, 30, 2], list(range(40)), list(range(39, -1, -3))])
def test_frames_equal_those_of_a_full_decode(media, tmp_path, form, wanted):
    name, codec, options = FORMS[form]
    path = media.video(tmp_path / name, codec=codec, options=options, frames=40)
    whole = pictures(path)
    packets = packets_of(path)
    frames = decode_frames(path.read_bytes(), packets, np.array(wanted), codec=_decoder(path), rotation=0)
    assert np.array_equal(frames, whole[wanted])


def _decoder(path) -> str:
    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.name


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_frames_come_upright(media, tmp_path, rotation):
    path = media.video(tmp_path / "a.mp4", frames=6, rotation=rotation)
    packets = packets_of(path)
    turned = decode_frames(path.read_bytes(), packets, np.array([2, 4]), codec="h264", rotation=rotation)
    plain = decode_frames(path.read_bytes(), packets, np.array([2, 4]), codec="h264", rotation=0)
    assert np.array_equal(turned, np.rot90(plain, -rotation // 90, axes=(1, 2)))


def test_damage_is_an_error_not_a_wrong_picture(media, tmp_path):
    path = media.video(tmp_path / "a.mp4", frames=12)
    packets = packets_of(path)
    lying = replace(packets, pts=packets.pts + 1)
    with pytest.raises(ValueError, match=r"the decoder gave no frame at pts \d+"):
        decode_frames(path.read_bytes(), lying, np.array([3]), codec="h264", rotation=0)
    with pytest.raises(av.error.FFmpegError):
        decode_frames(b"nothing" * 100, packets, np.array([3]), codec="h264", rotation=0)


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def graph(views: int, threads: int = 2) -> AugmentGraph:
    return AugmentGraph(max_views=views, size=16, mean=MEAN, std=STD, threads=threads)


def test_the_whole_frame_at_its_own_size_is_only_normalised():
    clip = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    whole = View(np.arange(3), (0.0, 0.0), (1.0, 1.0), False)
    mirrored = View(np.arange(3), (0.0, 0.0), (1.0, 1.0), True)
    plain, flipped = graph(2).run([clip, clip], [whole, mirrored])
    want = ((clip / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    assert plain.dtype == np.float32
    assert np.allclose(plain, want, atol=1e-5)
    assert np.array_equal(flipped, plain[..., ::-1])


def test_a_window_is_cut_before_it_is_resized():
    clip = np.zeros((1, 32, 64, 3), np.uint8)
    clip[:, 8:24, 32:48] = 255
    window = View(np.arange(1), (0.25, 0.5), (0.5, 0.25), False)
    (out,) = graph(1).run([clip], [window])
    assert np.allclose(out, ((1 - np.array(MEAN)) / STD)[None, :, None, None], atol=1e-5)


def test_output_depends_on_neither_threads_nor_batch_split():
    rng = np.random.default_rng(1)
    clips = [rng.integers(0, 256, (4, 40 + n, 50, 3), dtype=np.uint8) for n in range(6)]
    views = [View(np.arange(4), (0.1, 0.05 * n), (0.7, 0.6), n % 2 == 0) for n in range(6)]
    together = graph(6).run(clips, views)
    alone = graph(6, threads=1)
    assert all(np.array_equal(alone.run([c], [v])[0], want) for c, v, want in zip(clips, views, together, strict=True))
