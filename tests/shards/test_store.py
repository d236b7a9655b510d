"""A dataset behind a URL is fetched file by file, checked, and read like one in a folder."""

import shutil
from pathlib import Path

import pytest
from reelmill.shards.cache import DiskCache
from reelmill.shards.errors import DamageError, UsageError
from reelmill.shards.reader import Dataset, SampleRef, members_of

URL = "store://bucket/set"


class Bucket:
    """A folder behind a URL; counts what is fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fetched: list[str] = []

    def __call__(self, url: str, path: Path) -> None:
        name = url.removeprefix(f"{URL}/")
        self.fetched.append(name)
        shutil.copyfile(self.folder / name, path)


@pytest.fixture
def bucket(small_dataset: Path, tmp_path: Path) -> Bucket:
    return Bucket(Path(shutil.copytree(small_dataset, tmp_path / "bucket")))


def payloads(dataset: Dataset) -> list[bytes]:
    found = []
    for shard in range(len(dataset.shard_sizes)):
        for row in dataset.rows(shard).select(["key", "members"]).to_pylist():
            found += [dataset.tar(shard).read(row["key"], member) for member in members_of(row["members"])]
    return found


def test_a_remote_dataset_reads_like_a_local_one_and_is_fetched_once(bucket, small_dataset, tmp_path):
    cache = DiskCache(tmp_path / "cache", 10_000_000)
    remote, local = Dataset(f"{URL}/", cache=cache, fetch=bucket), Dataset(small_dataset)
    assert bucket.fetched == ["dataset.json"]
    assert remote.manifest == local.manifest
    assert payloads(remote) == payloads(local)
    assert sorted(bucket.fetched) == sorted({"dataset.json"} | {f"shards/{p.name}" for p in read_files(bucket)})
    again = Dataset(URL, cache=cache, fetch=bucket)
    assert payloads(again) == payloads(local)
    assert bucket.fetched.count("dataset.json") == 2
    assert bucket.fetched.count("shards/000000.tar") == 1


def read_files(bucket: Bucket) -> list[Path]:
    return [path for path in (bucket.folder / "shards").iterdir() if path.suffix in (".tar", ".parquet")]


def test_what_a_server_changed_is_not_taken(bucket, tmp_path):
    dataset = Dataset(URL, cache=DiskCache(tmp_path / "cache", 10_000_000), fetch=bucket)
    tar = bucket.folder / "shards/000000.tar"
    good = tar.read_bytes()
    tar.write_bytes(good[:-1] + b"x")
    with pytest.raises(DamageError, match=rf"{URL}/shards/000000.tar must have sha256 [0-9a-f]+, got [0-9a-f]+"):
        dataset.tar(0)
    tar.write_bytes(good)
    assert dataset.tar(0).bytes == len(good)


def test_a_url_needs_a_cache():
    with pytest.raises(UsageError, match="a dataset behind a URL is read by way of a cache, got s3://b/d"):
        Dataset("s3://b/d")


def test_tables_of_a_large_dataset_are_unpacked_once(small_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("reelmill.shards.reader.SMALL_SAMPLES", 3)
    cache = DiskCache(tmp_path / "cache", 10_000_000)
    whole = Dataset(small_dataset)
    large = Dataset(small_dataset, cache=cache)
    assert large.rows(0).equals(whole.rows(0))
    packets = large.packets(SampleRef(0, 2))
    assert packets.offset.tolist() == whole.packets(SampleRef(0, 2)).offset.tolist()
    assert [path.suffix for path in cache.folder.iterdir() if not path.name.startswith(".")] == [".arrow"]
    large.let_go({0})
    assert large.rows(0).equals(whole.rows(0))
    (unpacked,) = cache.folder.glob("*.arrow")
    unpacked.write_bytes(b"not arrow")
    with pytest.raises(DamageError, match=r"unpacked table of .*000000.tar does not read"):
        Dataset(small_dataset, cache=cache).rows(0)
