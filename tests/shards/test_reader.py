"""Samples are read by offset, and nothing is handed out whose crc32 is wrong."""

from dataclasses import replace

import pytest
from reelmill.shards.errors import DamageError
from reelmill.shards.reader import Dataset, SampleRef, members_of


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
