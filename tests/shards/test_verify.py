"""Every byte of a dataset is checked: whatever is changed, verify names it."""

import random
import shutil
from pathlib import Path

import pytest
from reelmill.shards.errors import DamageError, UsageError
from reelmill.shards.reader import Dataset, members_of
from reelmill.shards.verify import Fault, verify


@pytest.fixture
def dataset(small_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_dataset, tmp_path / "copy"))


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def test_a_whole_dataset_has_no_faults(dataset):
    checked: list[int] = []
    assert verify(dataset, checked.append) == []
    assert sum(checked) == 15


def test_a_flipped_payload_byte_is_named_by_file_key_and_offset(dataset):
    row = Dataset(dataset).table(["key", "members"]).slice(0, 1).to_pylist()[0]
    video = members_of(row["members"])[0]
    flip(dataset / "shards/000000.tar", video.offset + 100)
    faults = verify(dataset)
    named = next(fault for fault in faults if fault.key)
    assert (named.file, named.key, named.offset) == ("000000.tar", row["key"], video.offset)
    assert "must have crc32" in named.what
    assert any("must have sha256" in fault.what for fault in faults)


@pytest.mark.parametrize("place", [0, 156, 300, -1])
def test_a_flipped_byte_anywhere_in_the_tar_is_found(dataset, place):
    flip(dataset / "shards/000000.tar", place)
    assert any(fault.file == "000000.tar" for fault in verify(dataset))


def test_every_flipped_bit_in_every_file_is_found(dataset):
    draw = random.Random(0)
    files = [path for path in sorted(dataset.rglob("*")) if path.is_file() and path.name != "inputs.parquet"]
    for path in files:
        whole = path.read_bytes()
        for _ in range(12):
            data = bytearray(whole)
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            path.write_bytes(data)
            try:
                faults = verify(dataset)
            except (DamageError, UsageError):  # only dataset.json itself stops the search
                faults = [Fault("dataset.json", "does not read")]
            assert any(path.name in fault.file for fault in faults), path
        path.write_bytes(whole)
    assert verify(dataset) == []


def test_two_shards_that_changed_places_are_found(dataset):
    first, second = dataset / "shards/000000.tar", dataset / "shards/000001.tar"
    if not second.exists():
        second.write_bytes(first.read_bytes())
        assert [fault.file for fault in verify(dataset)] == ["shards/000001.tar"]
    else:
        swapped = first.read_bytes(), second.read_bytes()
        second.write_bytes(swapped[0])
        first.write_bytes(swapped[1])
        assert {"000000.tar", "000001.tar"} <= {fault.file for fault in verify(dataset)}


def test_a_cut_tar_is_found(dataset):
    path = dataset / "shards/000000.tar"
    path.write_bytes(path.read_bytes()[:-2048])
    whats = " | ".join(fault.what for fault in verify(dataset))
    assert "bytes long" in whats


@pytest.mark.parametrize("name", ["shards/000000.idx", "shards/000000.parquet", "ledger.parquet"])
def test_a_changed_companion_is_found(dataset, name):
    flip(dataset / name, 20)
    assert any(fault.file.endswith(Path(name).name) for fault in verify(dataset))


@pytest.mark.parametrize("name", ["shards/000000.tar", "shards/000000.idx", "shards/000000.parquet", "ledger.parquet"])
def test_a_missing_file_is_found(dataset, name):
    (dataset / name).unlink()
    assert any(Path(name).name in str(fault) for fault in verify(dataset))


def test_a_file_that_nobody_lists_is_found(dataset):
    (dataset / "shards/000099.tar").write_bytes(b"")
    assert [str(fault) for fault in verify(dataset)] == ["shards/000099.tar: is not listed in dataset.json"]
