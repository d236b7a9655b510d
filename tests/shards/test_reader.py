"""Samples are read by offset, and nothing is handed out whose crc32 is wrong."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from reelmill.benchmarks.load_world import write_dataset
from reelmill.shards.errors import DamageError
from reelmill.shards.reader import Dataset, SampleRef, ShardReader, members_of


def test_payloads_packets_and_columns(small_dataset):
    dataset = Dataset(small_dataset)
    table = dataset.table(["key", "members", "labels", "frames"])
    assert table.num_rows == sum(dataset.shard_sizes) == 15
    assert len(dataset.shard_sizes) >= 1
    row = table.to_pylist()[0]
    video, sidecar = members_of(row["members"])
    assert dataset.tar(0).read(row["key"], video)[:4] == b"\x1aE\xdf\xa3"  # Matroska
    assert dataset.tar(0).read(row["key"], sidecar).startswith(b"{")
    assert len(dataset.packets(SampleRef(0, 0))) == row["frames"]
    dataset.close()


def test_damage_names_file_key_and_offset(small_dataset):
    dataset = Dataset(small_dataset)
    row = dataset.table(["key", "members"]).to_pylist()[0]
    video = members_of(row["members"])[0]
    where = rf"000000.tar: {row['key']}.mkv at offset {video.offset}"
    with pytest.raises(DamageError, match=rf"{where} must have crc32 00000000, got "):
        dataset.tar(0).read(row["key"], replace(video, crc32=0))
    with pytest.raises(DamageError, match=rf"{where} must end inside the tar of \d+ bytes"):
        dataset.tar(0).read(row["key"], replace(video, size=1 << 40))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_few_tars_are_open_and_none_is_closed_while_it_is_read(media, tmp_path, monkeypatch):
    monkeypatch.setattr("reelmill.shards.reader.OPEN_TARS", 2)
    video = media.video(tmp_path / "a.mkv", codec="mjpeg", frames=2)
    dataset = Dataset(write_dataset(tmp_path / "made", [video], 6, shard_samples=1))
    rows = dataset.table(["key", "members"]).to_pylist()
    before = open_files()
    held = dataset.tar(0)
    for _ in range(2):
        for shard, row in enumerate(rows):
            data = dataset.tar(shard).read(row["key"], members_of(row["members"])[0])
            assert data == video.read_bytes()
            assert open_files() <= before + 3
    dataset.let_go(range(6))
    dataset.close()
    assert held.read(rows[0]["key"], members_of(rows[0]["members"])[0]) == video.read_bytes()
    assert open_files() == before + 1
    del held
    assert open_files() == before


def test_a_tar_that_the_disk_does_not_give_is_damage(small_dataset, tmp_path):
    dataset = Dataset(small_dataset)
    row = dataset.table(["key", "members"]).to_pylist()[0]
    reader = ShardReader(tmp_path, os.open(tmp_path, os.O_RDONLY))  # a folder opens, and does not read
    with pytest.raises(DamageError, match=r"at offset 0 cannot be read: Is a directory"):
        reader.read(row["key"], replace(members_of(row["members"])[0], offset=0, size=1))
    reader.close()
