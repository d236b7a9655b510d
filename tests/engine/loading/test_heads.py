"""Every head makes the same clip of a video; which one a video takes, and what reaches torch."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from reelmill.engine import ClipLoader, LoaderConfig
from reelmill.engine.config import IngestConfig
from reelmill.engine.ingest import ingest
from reelmill.engine.loading.graph import FrameGraph, VideoGraph
from reelmill.engine.loading.heads import Heads, head_for
from reelmill.engine.loading.meter import Meter
from reelmill.engine.loading.pixels import resized
from reelmill.engine.loading.sampling import PLAIN, Colours, View
from reelmill.shards.errors import UsageError
from reelmill.shards.table import Packets
from torch.utils.dlpack import from_dlpack

CONFIG = LoaderConfig(global_batch=4, frames=3, size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
MEAN, STD = np.array(CONFIG.mean), np.array(CONFIG.std)


@pytest.fixture(scope="module")
def vp9(tmp_path_factory, local_ray) -> Path:
    """Ten VP9 clips in archive form; soft pictures, as cameras make them."""
    folder = tmp_path_factory.mktemp("vp9")
    (folder / "in" / "run").mkdir(parents=True)
    for clip in range(10):
        write(folder / "in" / "run" / f"{clip}.webm", np.random.default_rng(clip), frames=20 + clip)
    ingest(IngestConfig(input=folder / "in", out=folder / "out"))
    return Path(folder / "out")


def write(path: Path, rng: np.random.Generator, frames: int) -> None:
    luma, colour = rng.integers(40, 216, (1, 1, 9, 12)), rng.integers(-30, 30, (1, 3, 9, 12))
    low = torch.from_numpy(luma + colour).float()
    ground = torch.nn.functional.interpolate(low, (96, 128), mode="bicubic").clamp(0, 255).byte()[0].permute(1, 2, 0)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libvpx-vp9", rate=12, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for n in range(frames):
            picture = np.ascontiguousarray(ground[n : n + 64, n : n + 96].numpy())
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))


def clips(dataset: Path, **options) -> torch.Tensor:
    config = LoaderConfig(**({"global_batch": 2, "frames": 4, "size": 48, "seed": 1, "threads": 1} | options))
    return torch.cat([batch.clips_BVTCHW for batch in ClipLoader(dataset, config)])


def frame_graph(config: LoaderConfig = CONFIG, views: int = 6) -> FrameGraph:
    return FrameGraph(config, max_views=views, convert=from_dlpack)


def view(mirror: bool = False, colours: Colours = PLAIN) -> View:
    return View(np.arange(3), (0.0, 0.0), (1.0, 1.0), mirror, colours)


def test_frames_are_only_normalised_and_mirrored():
    clip = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    plain, flipped = frame_graph().run([clip, clip], [view(), view(mirror=True)])
    want = ((clip / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    assert plain.dtype == torch.float32
    assert np.allclose(plain, want, atol=1e-5)
    assert torch.equal(flipped, plain.flip(-1))


def test_a_batch_stays_whole_while_the_next_ones_are_made():
    graph = frame_graph()
    rng = np.random.default_rng(1)
    batches = [[rng.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)] for _ in range(6)]
    made = [graph.run(batch, [view()]) for batch in batches]  # DALI's own memory, without a copy
    for batch, clip in zip(batches, made, strict=True):
        assert torch.equal(clip, frame_graph().run(batch, [view()]))


def test_colours_change_as_asked_and_plain_ones_not_at_all():
    config = replace(CONFIG, colour_jitter=0.5, dtype="uint8")
    clip = np.random.default_rng(2).integers(60, 180, (3, 16, 16, 3), dtype=np.uint8)
    changes = [Colours(), Colours(brightness=1.2), Colours(contrast=0.5), Colours(saturation=0.0), Colours(hue=180.0)]
    made = frame_graph(config).run([clip] * 5, [view(colours=change) for change in changes])
    plain, bright, flat, grey, turned = (each.numpy().transpose(0, 2, 3, 1) for each in made)
    assert np.array_equal(plain, clip)
    assert np.abs(bright - 1.2 * clip).max() <= 1
    assert np.abs(flat - (128 + 0.5 * (clip - 128.0))).max() <= 1
    assert np.ptp(grey, axis=-1).max() <= 1
    assert np.abs(turned - plain).mean() > 20
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(turned @ luma - plain @ luma).mean() < 3


def test_output_depends_on_neither_threads_nor_batch_split():
    rng = np.random.default_rng(1)
    given = [rng.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8) for _ in range(6)]
    views = [view(n % 2 == 0, Colours(1 + n / 10, 1 - n / 20, n / 5, 10.0 * n)) for n in range(6)]
    config = replace(CONFIG, colour_jitter=1.0)
    together = frame_graph(replace(config, threads=3)).run(given, views)
    alone = frame_graph(replace(config, threads=1))
    assert all(torch.equal(alone.run([c], [v])[0], want) for c, v, want in zip(given, views, together, strict=True))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (31, 50), (100, 17), (9, 7), (1, 1)])
def test_a_resize_averages_what_it_makes_smaller(height, width):
    frames = np.random.default_rng(3).integers(0, 256, (2, height + 3, width + 5, 3), dtype=np.uint8)
    window = frames[:, 2 : 2 + height, 4 : 4 + width]
    got = resized(window, 16)
    truth_TCHW = torch.from_numpy(window.copy()).permute(0, 3, 1, 2).double()
    truth = torch.nn.functional.interpolate(truth_TCHW, (16, 16), mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    assert got.shape == (2, 16, 16, 3)
    assert np.abs(got - truth.numpy()).max() <= 1.0


def test_heads_agree_on_vp9(vp9):
    ours, dali = clips(vp9, dtype="uint8").double(), clips(vp9, dtype="uint8", head="dali-cpu").double()
    assert (ours - dali).abs().mean() < 1.5
    assert (ours - dali).abs().mean() > 0  # two decoders at work, not one


@pytest.mark.parametrize("head", ["pyav", "dali-cpu"])
def test_a_batch_is_the_same_bit_for_bit_however_it_is_made(vp9, head):
    want = clips(vp9, head=head)
    assert torch.equal(clips(vp9, head=head, threads=4), want)
    assert torch.equal(clips(vp9, head=head, workers=2), want)
    assert torch.equal(clips(vp9, head=head, global_batch=1), want)
    assert torch.equal(clips(vp9, head=head, global_batch=8), want[:8])
    assert torch.equal(clips(vp9, head=head, global_batch=10), want)
    config = LoaderConfig(global_batch=2, frames=4, size=48, seed=1, head=head)
    first = ClipLoader(vp9, config)
    batches = iter(first)
    for _ in range(2):
        next(batches)
    second = ClipLoader(vp9, config)
    second.load_state_dict(first.state_dict())
    assert torch.equal(torch.cat([batch.clips_BVTCHW for batch in second]), want[4:])


def test_every_dtype_is_that_of_float32_rounded(vp9):
    want = clips(vp9)
    assert torch.equal(clips(vp9, dtype="float16"), want.half())
    assert torch.equal(clips(vp9, dtype="bfloat16"), want.bfloat16())
    levels = clips(vp9, dtype="uint8")
    config = LoaderConfig(global_batch=1)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (config.mean, config.std))
    assert levels.dtype == torch.uint8
    assert torch.allclose((levels / 255 - mean) / std, want, atol=1e-5)


def test_a_video_that_dali_does_not_decode_costs_itself_alone(media, tmp_path):
    good = [media.video(tmp_path / f"{n}.webm", codec="libvpx-vp9", tint=30 * n).read_bytes() for n in range(2)]
    graph = VideoGraph(CONFIG, decoder="cpu", max_views=4, convert=from_dlpack)
    beyond = replace(view(), frames=np.array([0, 1, 999]))
    want = graph.run(good, [view(), view(mirror=True)])
    found = graph.run([good[0], b"no video at all", good[1], good[0]], [view(), view(), view(mirror=True), beyond])
    assert torch.equal(found[0], want[0])
    assert torch.equal(found[2], want[1])
    for wrong in (found[1], found[3]):
        assert isinstance(wrong, ValueError)
        assert str(wrong).startswith("DALI does not decode it: ")


def test_a_batch_of_several_heads_keeps_its_order(vp9):
    """As where some videos of a batch are for NVDEC and others are not."""
    heads = Heads(CONFIG, Meter(), max_samples=4)
    levels = [np.full((3, 16, 16, 3), 50 * n, np.uint8) for n in range(4)]
    ready = [frame_graph().run([clip], [view()])[0].numpy() for clip in levels]
    views = [[view()]] * 4
    whole = heads.batch([[clip] for clip in levels], views)
    mixed = heads.batch([[levels[0]], [ready[1]], None, [levels[3]]], views)
    assert mixed.valid == [True, True, False, True]
    assert torch.equal(mixed.clips_BVTCHW, whole.clips_BVTCHW[[0, 1, 1, 3]])
    black = heads.batch([None] * 2, views[:2])
    assert black.valid == [False, False]
    assert torch.equal(black.clips_BVTCHW[0], whole.clips_BVTCHW[0])


def test_a_batch_of_which_dali_refuses_some_is_made_again_without_them(media, tmp_path):
    """As NVDEC decodes, with the whole batch; DALI's own CPU decoder is in its place."""
    good = [media.video(tmp_path / f"{n}.webm", codec="libvpx-vp9", tint=30 * n).read_bytes() for n in range(3)]
    heads = Heads(CONFIG, meter := Meter(), max_samples=4)
    heads._videos = VideoGraph(CONFIG, decoder="cpu", max_views=4, convert=from_dlpack)
    views = [[view()]] * 4
    whole = heads.batch([good[0], good[1], good[2], good[2]], views)
    assert whole.valid == [True] * 4
    for _ in range(2):  # also by the pipeline that was built after the error
        some = heads.batch([good[0], good[1][:99], None, good[2]], views)
        assert some.valid == [True, False, False, True]
        assert list(some.errors) == [1]
        assert str(some.errors[1]).startswith("DALI does not decode it: ")
        assert torch.equal(some.clips_BVTCHW, whole.clips_BVTCHW[[0, 0, 3, 3]])
    none = heads.batch([good[1][:99]] * 4, views)
    assert none.valid == [False] * 4
    assert torch.equal(none.clips_BVTCHW, heads.batch([None] * 4, views).clips_BVTCHW)
    assert meter.read().decoded == {"nvdec": 4 + 3 + 3 + 4}


def packets(shown: bool = True, offset: int = 0) -> Packets:
    many = np.arange(3)
    return Packets(many + offset, many + 1, many, np.array([True, shown, True]), np.ones(3, bool))


@pytest.mark.parametrize(
    ("options", "codec", "rotation", "table", "head", "why"),
    [
        ({}, "h264", 0, packets(), "pyav", ""),
        ({}, "mjpeg", 90, packets(), "jpeg", ""),
        ({}, "mjpeg", 0, packets(offset=-1), "pyav", ""),
        ({"head": "dali-cpu"}, "vp9", 0, packets(), "dali-cpu", ""),
        ({"head": "dali-cpu"}, "h264", 0, packets(), "pyav", "dali-cpu takes vp8, vp9, mjpeg only"),
        ({"head": "dali-cpu"}, "vp9", 90, packets(), "pyav", "dali-cpu does not turn videos upright"),
        ({"head": "dali-cpu"}, "vp9", 0, packets(shown=False), "pyav", "dali-cpu counts frames that are not shown"),
        ({"device_id": 0}, "h264", 0, packets(), "nvdec", ""),
        ({"device_id": 0}, "mjpeg", 0, packets(), "jpeg", ""),
        ({"device_id": 0, "head": "nvdec"}, "mjpeg", 0, packets(), "nvdec", ""),
        ({"device_id": 0, "head": "pyav"}, "h264", 0, packets(), "pyav", ""),
        ({"device_id": 0}, "prores", 0, packets(), "pyav", "nvdec takes h264, hevc, vp8, vp9, av1, mpeg4, mjpeg only"),
    ],
)
def test_which_head_a_video_takes(options, codec, rotation, table, head, why):
    assert head_for(replace(CONFIG, **options), table, codec=codec, rotation=rotation) == (head, why)


def test_the_head_is_said_once(vp9, caplog):
    with caplog.at_level(logging.INFO, "reelmill.loader"):
        clips(vp9)
    assert [record.getMessage() for record in caplog.records] == ["vp9 is decoded by pyav"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "nvdec"}, "head must be used with a device_id, got nvdec"),
        ({"head": "dali-cpu", "device_id": 0}, "head must be used without a device_id, got dali-cpu"),
        ({"head": "gpu"}, "head must be one of auto, pyav, nvdec, dali-cpu, got gpu"),
        ({"dtype": "float64"}, "dtype must be one of float32, float16, bfloat16, uint8, got float64"),
        ({"workers": -1}, "workers must be >= 0, got -1"),
        ({"seed": np.int64(3)}, r"seed must be an int, got 3"),
        ({"sample_seconds": 0}, "sample_seconds must be > 0, got 0"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        LoaderConfig(global_batch=1, **options)
