"""Shards damaged after ingest, in many ways: the epoch ends, every good sample comes once, every bad one is told."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reelmill.benchmarks.load_world import write_dataset
from reelmill.engine import LoaderConfig
from reelmill.shards.reader import Dataset
from reelmill.shards.schema import SAMPLE

SHARD, FORMS = 40, ("mjpeg", "h264", "vp9")


@dataclass
class Open:
    """One shard, taken apart: what a damage changes is written back."""

    tar: bytearray
    rows: list[dict[str, Any]]

    def video(self, row: int) -> slice:
        member = self.rows[row]["members"][0]
        return slice(member["offset"], member["offset"] + member["size"])


Damage = Callable[[Open, int], None]


def tell(**fields: Any) -> Damage:
    """The table says something else of the sample."""
    return lambda shard, row: shard.rows[row].update(fields)


def tell_member(**fields: Any) -> Damage:
    return lambda shard, row: shard.rows[row]["members"][0].update(fields)


def tell_packets(**fields: Any) -> Damage:
    def change(shard: Open, row: int) -> None:
        for packet in shard.rows[row]["packets"]:
            packet.update(fields)

    return change


def flip(place: int) -> Damage:
    def change(shard: Open, row: int) -> None:
        shard.tar[shard.video(row).start + place] ^= 0x10

    return change


def fill(value: int, first: int, count: int) -> Damage:
    def change(shard: Open, row: int) -> None:
        start = shard.video(row).start + first
        shard.tar[start : start + count] = bytes([value]) * count

    return change


def other_bytes(shard: Open, row: int) -> None:
    """Those of the next sample, which is another video, under this one's length."""
    here, there = shard.video(row), shard.video(row + 1)
    size = min(here.stop - here.start, there.stop - there.start)
    shard.tar[here.start : here.start + size] = shard.tar[there.start : there.start + size]


def moved(shard: Open, row: int) -> None:
    here = shard.video(row)
    shard.tar[here] = shard.tar[here.start + 1 : here.stop] + b"\0"


def reversed_bytes(shard: Open, row: int) -> None:
    here = shard.video(row)
    shard.tar[here] = shard.tar[here][::-1]


def other_packets(shard: Open, row: int) -> None:
    """All of another size than the packets have."""
    for packet in shard.rows[row]["packets"]:
        packet["size"] = max(1, packet["size"] // 3)


def no_offsets_in_header(shard: Open, row: int) -> None:
    """Every packet is said to lie at the start of the file."""
    for packet in shard.rows[row]["packets"]:
        packet["offset"] = 0


DAMAGES: dict[str, Damage] = {
    "a flipped bit in the header": flip(5),
    "a flipped bit in the middle": flip(900),
    "zeroes": fill(0, 200, 300),
    "ones": fill(255, 500, 64),
    "the bytes of another sample": other_bytes,
    "moved by a byte": moved,
    "reversed": reversed_bytes,
    "a wrong crc32": tell_member(crc32=1),
    "an offset beyond the tar": tell_member(offset=1 << 40),
    "a negative offset": tell_member(offset=-512),
    "the offset of the tar's first header": tell_member(offset=0),
    "a size beyond the tar": tell_member(size=1 << 40),
    "the largest size": tell_member(size=(1 << 63) - 1),
    "a negative size": tell_member(size=-1),
    "a shorter size": tell_member(size=700),
    "no size": tell_member(size=None),
    "no members": tell(members=[]),
    "members that are none": tell(members=[None]),
    "another codec": tell(codec="theora"),
    "no codec": tell(codec=None),
    "a width of 0": tell(width=0),
    "a negative height": tell(height=-64),
    "a huge picture": tell(width=1 << 30, height=1 << 30),
    "pixels without an aspect": tell(pixel_aspect=float("nan")),
    "an odd rotation": tell(rotation=45),
    "a clock that stands still": tell(time_base="1/0"),
    "no frames": tell(frames=0),
    "more frames than packets": tell(frames=1 << 50),
    "no packets": tell(packets=[]),
    "packets that are null": tell(packets=None),
    "packets beyond the file": tell_packets(offset=1 << 50),
    "packets before the file": tell_packets(offset=-(1 << 50)),
    "packets of huge sizes": tell_packets(size=(1 << 31) - 1),
    "packets of negative sizes": tell_packets(size=-5),
    "packets of other sizes": other_packets,
    "packets at the start": no_offsets_in_header,
    "packets without a place": tell_packets(offset=None),
    "packets that show nothing": tell_packets(pts=None),
    "labels that are null": tell(labels=None),
    "an empty key": tell(key=""),
}


def damaged(dataset: Path, out: Path, kinds: list[str], apart: int = 1) -> tuple[Path, dict[str, str]]:
    """A copy with a sample of each kind of damage, so far apart; with the kinds by key."""
    shutil.copytree(dataset, out)
    opened, bad = Dataset(out), dict[str, str]()
    places = np.arange(len(kinds)) * apart
    shards = np.searchsorted(np.cumsum(opened.shard_sizes), places, side="right")
    for number in sorted(set(shards.tolist())):
        tar = opened.tar_path(number)
        shard = Open(bytearray(tar.read_bytes()), opened.shard_table(number).to_pylist())
        for which in np.flatnonzero(shards == number).tolist():
            row = int(places[which]) - sum(opened.shard_sizes[:number])
            bad[shard.rows[row]["key"]] = kinds[which]
            DAMAGES[kinds[which]](shard, row)
        tar.write_bytes(shard.tar)
        pq.write_table(pa.Table.from_pylist(shard.rows, SAMPLE), tar.with_suffix(".parquet"))
    return out, bad


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("form", FORMS)
def test_damage_costs_the_damaged_samples_alone(whole, epoch, tmp_path, form, workers):
    keys = Dataset(whole / form).table(["key"]).column("key").to_pylist()
    folder, bad = damaged(whole / form, tmp_path / "bad", list(DAMAGES))
    found = epoch(folder, workers=workers)
    assert {bad[key] for key in found.times if key in bad} == set()
    assert found.times == {key: 1 for key in keys if key not in bad}
    check_told(found, bad, whole / form)


def test_one_sample_in_twenty_is_damaged_and_the_epoch_ends(whole, epoch, tmp_path):
    """With the share of bad samples that is allowed if nothing is said."""
    kinds = list(DAMAGES)
    assert len(kinds) >= 20
    videos = sorted((whole / "videos" / "mjpeg").iterdir())
    made = write_dataset(tmp_path / "many", videos, 20 * len(kinds), shard_samples=SHARD)
    folder, bad = damaged(made, tmp_path / "bad", kinds, apart=20)
    found = epoch(folder, max_bad_fraction=LoaderConfig(global_batch=1).max_bad_fraction)
    keys = Dataset(made).table(["key"]).column("key").to_pylist()
    assert found.times == {key: 1 for key in keys if key not in bad}
    check_told(found, bad, made)


def check_told(found: Any, bad: dict[str, str], whole: Path) -> None:
    """Every bad sample is in the quarantine once, with its shard, key and offset (unless these were damaged)."""
    unnamed = sum(kind == "an empty key" for kind in bad.values())
    assert sorted(found.lost) == sorted([key for key in bad if bad[key] != "an empty key"] + [""] * unnamed)
    assert sorted(line["key"] for line in found.lines) == sorted(found.lost)
    places = {
        row["key"]: (f"shards/{shard:06d}.tar", row["members"][0]["offset"])
        for shard in range(len(Dataset(whole).shard_sizes))
        for row in Dataset(whole).shard_table(shard, ["key", "members"]).to_pylist()
    }
    told = ("an offset", "a negative offset", "the offset", "members", "no members")
    for line in found.lines:
        assert line["error"]
        if line["key"]:
            shard, offset = places[line["key"]]
            assert line["shard"] == shard
            assert line["offset"] == offset or bad[line["key"]].startswith(told), bad[line["key"]]


def test_damage_under_the_all_dali_graph_costs_no_other_sample(whole, epoch, tmp_path):
    """DALI reads the container by itself: what a table says wrongly of packets does not matter to it."""
    keys = Dataset(whole / "vp9").table(["key"]).column("key").to_pylist()
    folder, bad = damaged(whole / "vp9", tmp_path / "bad", list(DAMAGES))
    found = epoch(folder, workers=1, head="dali-cpu")
    assert max(found.times.values()) == 1
    assert set(keys) - set(bad) <= set(found.times)
    assert len(found.times) + len(found.lost) == 2 * SHARD
    assert len(found.lines) == len(found.lost) >= 20


@pytest.mark.parametrize("sampling", ["segments", "dense", "seconds"])
def test_evaluation_and_every_sampling_go_on(whole, epoch, tmp_path, sampling):
    folder, bad = damaged(whole / "h264", tmp_path / "bad", list(DAMAGES))
    found = epoch(folder, training=False, clips=2, crops=3, sampling=sampling)
    assert len(found.times) == 2 * SHARD - len(bad)
    assert len(found.lines) == len(bad)


def cut_tar(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10_000])


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def cut_table(path: Path) -> None:
    table = path.with_suffix(".parquet")
    table.write_bytes(table.read_bytes()[:-100])


def other_columns(path: Path) -> None:
    table = pq.read_table(path.with_suffix(".parquet"))
    pq.write_table(table.drop_columns(["codec"]), path.with_suffix(".parquet"))


def other_types(path: Path) -> None:
    table = pq.read_table(path.with_suffix(".parquet"))
    place = table.column_names.index("frames")
    texts = table.column("frames").cast(pa.string())
    pq.write_table(table.set_column(place, "frames", texts), path.with_suffix(".parquet"))


def fewer_rows(path: Path) -> None:
    pq.write_table(pq.read_table(path.with_suffix(".parquet")).slice(0, 10), path.with_suffix(".parquet"))


@pytest.mark.parametrize(
    ("damage", "lost_keys"),
    [
        (Path.unlink, True),
        (make_folder, True),
        (lambda path: path.write_bytes(b""), True),
        (cut_tar, True),
        (lambda path: path.with_suffix(".parquet").unlink(), False),
        (lambda path: path.with_suffix(".parquet").write_bytes(b"PAR1" * 99), False),
        (cut_table, False),
        (other_columns, False),
        (other_types, False),
        (fewer_rows, False),
    ],
)
def test_a_shard_that_does_not_open_costs_its_samples(whole, epoch, tmp_path, damage, lost_keys):
    folder = tmp_path / "bad"
    shutil.copytree(whole / "mjpeg", folder)
    keys = Dataset(folder).table(["key"]).column("key").to_pylist()
    damage(folder / "shards" / "000001.tar")
    found = epoch(folder)
    missing = SHARD if damage is not cut_tar else SHARD - sum(key in found.times for key in keys[SHARD:])
    assert missing > SHARD // 2
    assert len(found.times) == 2 * SHARD - missing
    assert set(keys[:SHARD]) <= set(found.times)
    assert max(found.times.values()) == 1
    assert len(found.lines) == missing
    assert {line["shard"] for line in found.lines} == {"shards/000001.tar"}
    assert {line["key"] for line in found.lines} <= (set(keys[SHARD:]) if lost_keys else {""})
