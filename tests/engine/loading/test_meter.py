"""The figures of the stall meter hold together; none is compared with a clock."""

from dataclasses import replace

import pytest
from reelmill.engine import ClipLoader, LoaderConfig
from reelmill.engine.loading.meter import Figures
from reelmill.shards.reader import Dataset

CONFIG = LoaderConfig(global_batch=5, frames=2, size=16, prefetch=3)


def read(datasets, **options) -> Figures:
    loader = ClipLoader(datasets, replace(CONFIG, **options))
    batches = len(list(loader))
    figures = loader.meter.read()
    assert figures.batches == batches == len(loader)
    assert figures.stall_seconds == loader.stall_seconds
    assert 0 < figures.stall_seconds <= figures.wall_seconds
    assert figures.stall_share == figures.stall_seconds / figures.wall_seconds
    assert 0 <= figures.queue_depth == figures.ready_batches / batches <= CONFIG.prefetch
    assert figures.bytes_per_second == pytest.approx(figures.payload_bytes / figures.wall_seconds)
    for head in figures.heads.values():
        assert head.seconds > 0
        assert head.ms == pytest.approx(1000 * head.seconds / head.samples)
        assert head.bytes_per_second == pytest.approx(head.payload_bytes / head.seconds)
    loader.close()
    return figures


def sizes(dataset) -> list[int]:
    rows = Dataset(dataset).table(["members"]).column("members").to_pylist()
    return [members[0]["size"] for members in rows]


@pytest.mark.parametrize(
    ("forms", "options", "heads"),
    [
        (["mjpeg"], {}, {"jpeg": 80}),
        (["mjpeg", "h264"], {"training": False}, {"jpeg": 80, "pyav": 80}),
        (["vp9"], {"head": "dali-cpu", "threads": 1}, {"dali-cpu": 80}),
        (["mjpeg", "h264"], {"workers": 2}, {"jpeg": 80, "pyav": 80}),
    ],
)
def test_every_head_has_its_samples_and_bytes(whole, forms, options, heads):
    figures = read([whole / form for form in forms], **options)
    assert figures.decoded == heads
    assert figures.samples == sum(heads.values())
    assert figures.bad == 0
    given = [sum(sizes(whole / form)) for form in forms]
    assert sorted(head.payload_bytes for head in figures.heads.values()) == sorted(given)
    assert figures.payload_bytes == sum(given)


def test_what_does_not_decode_is_counted_apart(whole, tmp_path):
    """Tars without a byte: every sample is asked for, none is read, and none decodes."""
    figures = read([whole / "mjpeg"])
    empty = tmp_path / "empty"
    (empty / "shards").mkdir(parents=True)
    for path in [whole / "mjpeg/dataset.json", *(whole / "mjpeg/shards").iterdir()]:
        copy = empty / path.relative_to(whole / "mjpeg")
        copy.write_bytes(b"" if path.suffix == ".tar" and path.stem == "000001" else path.read_bytes())
    found = read([empty], max_bad_fraction=1.0)
    assert (found.samples, found.bad, found.decoded) == (figures.samples, 40, {"jpeg": 40})
    assert found.payload_bytes == sum(sizes(whole / "mjpeg")[:40])


def test_before_anything_happened_all_is_zero(whole):
    loader = ClipLoader(whole / "mjpeg", CONFIG)
    figures = loader.meter.read()
    assert figures == Figures()
    assert (figures.stall_share, figures.queue_depth, figures.bytes_per_second) == (0, 0, 0)
    next(iter(loader))
    assert figures == Figures()  # a copy
