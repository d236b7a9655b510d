"""What a shard's table says is not believed: every value of every column ends as a good sample or a quarantined one."""

import random
import resource
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reelmill.benchmarks.load_world import write_dataset
from reelmill.engine import ClipLoader, LoaderConfig
from reelmill.shards.errors import DamageError
from reelmill.shards.reader import Dataset
from reelmill.shards.schema import SAMPLE

Row = dict[str, Any]
Change = Callable[[Row], None]
NAN, INF = float("nan"), float("inf")
LARGE, SMALL, LONG = (1 << 63) - 1, -(1 << 63), (1 << 31) - 1
NO_TIMES = ["", "1/0", "0/1", "0", "-1/2", "1/-2", "1e5", "nan", "1/2/3", " 1/2", "1/2\n", "１/２", "1/" + "9" * 11]

LOST: dict[str, list[Any]] = {
    "key": [None, ""],
    "labels": [None, [None], ["a"] * 20_000],
    "codec": [None, "", "hevc", "theora", "no codec at all", "../../etc/passwd", "\0"],
    "width": [None, 0, -1, LONG],
    "height": [None, 0, -64, LONG],
    "pixel_aspect": [None, NAN, INF, -INF, 0.0, -1.0, 1e300, 5e-324],
    "rotation": [None, 1, 45, -90, 360, 32767],
    "time_base": [None, *NO_TIMES, "9" * 400, "9" * 5000, "1/" + "9" * 400],
    "frames": [None, 0, -1, SMALL, LARGE, (1 << 21) + 1],
    "members": [None, [], [None]],
    "packets": [None, [], [None]],
    "members.ext": [None],
    "members.offset": [None, -1, SMALL, LARGE, 1 << 40],
    "members.size": [None, 0, -1, SMALL, LARGE, 1 << 40],
    "members.crc32": [None, 0],
    "packets.offset": [None, 0, -2, SMALL, LARGE],
    "packets.size": [None, 0, -1, -(1 << 31), LONG],
    "packets.pts": [None],
    "packets.keyframe": [None],
}
"""Of each column, values with which a sample cannot be decoded, or should not be."""
KEPT: dict[str, list[Any]] = {
    "key": ["../../x", "a\nb", "x" * 100_000, "ключ"],
    "labels": [[], ["no such label"], ["made", "made"], [""]],
    "action_id": [None, -1, SMALL, LARGE],
    "split": [None, "x" * 1_000_000],
    "caption": [None, "x" * 1_000_000, "\0"],
    "source": [None, "../../etc/passwd"],
    "fps": [None, NAN, INF, -1.0, 0.0],
    "duration_seconds": [None, NAN, -INF],
    "start_seconds": [NAN, -1e300],
    "container": [None, "x"],
    "pix_fmt": [None, "x"],
    "color_matrix": [None, "x"],
    "stream_hash": [None],
    "generation": [None, -5],
    "width": [1, 4352],
    "pixel_aspect": [0.2, 7.9],
    "rotation": [90, 180, 270],
    "time_base": ["1", "2147483647", "1/2147483647"],
    "frames": [1, 3],
}
"""What costs nothing: it is not looked at, or might be true."""
EITHER: dict[str, list[Any]] = {
    "frames": [17, 1 << 21],
    "packets.offset": [-1, 1],
    "packets.size": [1, 500],
    "packets.pts": [0, SMALL, LARGE, -7],
    "packets.keyframe": [False],
}
"""What may cost the sample, as it is sampled."""


def tell(row: Row, column: str, value: Any) -> None:
    """Set a column, or a field of the video's member or of every packet."""
    name, _, part = column.partition(".")
    if not part:
        row[name] = value
        return
    for entry in (row[name] or [])[: 1 if name == "members" else None]:
        if entry is not None:
            entry[part] = value


def overlap(row: Row) -> None:
    """Each packet is said to be the whole file: taken out of it all together, they would fill any memory."""
    tell(row, "packets.offset", 0)
    tell(row, "packets.size", row["members"][0]["size"])


def changes(values: dict[str, list[Any]]) -> list[Change]:
    return [partial(tell, column=column, value=value) for column, its in values.items() for value in its]


@pytest.fixture(scope="module")
def made(whole, tmp_path_factory) -> Path:
    """A dataset of each form, with a row for every value and as many that stay as they are."""
    folder = Path(tmp_path_factory.mktemp("hostile"))
    for form in ("mjpeg", "h264"):
        videos = sorted((whole / "videos" / form).iterdir())
        write_dataset(folder / form, videos, 360, shard_samples=360)
    return folder


@pytest.fixture
def bad(made, tmp_path, request) -> Path:
    return Path(shutil.copytree(made / getattr(request, "param", "mjpeg"), tmp_path / "bad"))


@pytest.mark.parametrize(
    ("bad", "options"),
    [
        ("mjpeg", {}),
        ("h264", {"sampling": "dense"}),
        ("h264", {"sampling": "seconds", "training": False}),
        ("mjpeg", {"workers": 2}),
    ],
    indirect=["bad"],
)
def test_every_value_of_every_column_ends_well(bad, epoch, write_rows, options):
    rows = Dataset(bad).shard_table(0).to_pylist()
    given = [*changes(LOST), overlap, *changes(KEPT), *changes(EITHER)]
    lost, kept = len(changes(LOST)) + 1, len(changes(KEPT))
    touched = rows[1::2][: len(given)]
    for row, change in zip(touched, given, strict=True):
        change(row)
    write_rows(bad, 0, rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = epoch(bad, **options)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 300_000  # kB
    keys = [row["key"] or "" for row in touched]
    assert [key for key in keys[:lost] if key in found.times] == []
    assert [key for key in keys[lost : lost + kept] if found.times.get(key) != 1] == []
    intact = [row["key"] for row in rows if not any(row is other for other in touched)]
    assert [key for key in intact if found.times.get(key) != 1] == []
    assert len(found.times) + len(found.lost) == len(rows)
    assert sorted(line["key"] for line in found.lines) == sorted(found.lost)


@pytest.mark.parametrize("sampling", ["segments", "seconds"])
def test_several_wrong_values_together_end_well(bad, epoch, write_rows, sampling):
    rows, draw = Dataset(bad).shard_table(0).to_pylist(), random.Random(5)
    every = [*changes(LOST), *changes(KEPT), *changes(EITHER)]
    for row in rows[::2]:
        for change in draw.sample(every, 3):
            change(row)
    write_rows(bad, 0, rows)
    found = epoch(bad, sampling=sampling)
    assert [row["key"] for row in rows[1::2] if found.times.get(row["key"]) != 1] == []
    assert sum(found.times.values()) + len(found.lost) == len(rows)
    assert len(found.lines) == len(found.lost) > 50


def test_text_that_is_none_costs_its_sample(bad, epoch):
    table = Dataset(bad).shard_table(0)
    captions = pa.array([b"\xff\xfe" if n == 7 else b"fine" for n in range(len(table))]).view(pa.string())
    place = SAMPLE.get_field_index("caption")
    pq.write_table(table.set_column(place, "caption", captions), bad / "shards/000000.parquet")
    found = epoch(bad)
    assert len(found.times) == len(table) - 1
    assert "utf-8" in found.lines[0]["error"]


def test_more_packets_than_a_video_may_have_cost_its_sample(bad, epoch, monkeypatch):
    monkeypatch.setattr("reelmill.engine.media.limits.MAX_PACKETS", 15)
    found = epoch(bad)
    assert found.times == {}
    assert "limit: must have at most 15 packets and frames, has more" in found.lines[0]["error"]


@pytest.mark.parametrize(("name", "limit"), [("TABLE_VALUES", 5000), ("TABLE_BYTES", 9000)])
def test_a_table_that_unpacks_without_end_is_not_read(bad, epoch, monkeypatch, name, limit):
    monkeypatch.setattr(f"reelmill.shards.reader.{name}", limit)
    told = r"000000.parquet must hold at most \d+ values in \d+ bytes, got \d+ in \d+"
    with pytest.raises(DamageError, match=told):
        ClipLoader(bad, LoaderConfig(global_batch=1, classes=("made",)))
    found = epoch(bad)
    assert found.times == {}
    assert "must hold at most" in found.lines[0]["error"]
